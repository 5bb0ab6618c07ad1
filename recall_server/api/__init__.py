"""The HTTP side: routes translate and delegate to `recall_server.service`, errors become problem documents."""
