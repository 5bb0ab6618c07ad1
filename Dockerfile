FROM python:3.12-slim
WORKDIR /srv/memory-recall
# With a compiler, the server compiles kernels for its processor at the first start. They train twice as fast.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
# For more: docker build --build-arg EXTRAS=server,cpu,ray,postgresql .
ARG EXTRAS=server,cpu
COPY pyproject.toml constraints.txt README.md LICENSE CHANGELOG.md ./
COPY recall_server recall_server
COPY trainer trainer
RUN pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]" \
    && useradd --system --uid 999 --create-home recall \
    && install -d -o recall /var/lib/memory-recall
COPY artifacts artifacts
USER recall
ENV RECALL_HOST=0.0.0.0 \
    RECALL_ARTIFACTS=/srv/memory-recall/artifacts \
    RECALL_STATE=/var/lib/memory-recall \
    RECALL_LOG_FORMAT=json
VOLUME /var/lib/memory-recall
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/live', timeout=3)"]
CMD ["recall-server", "serve"]
