"""The HTTP side: routes translate and delegate to `recall_server.service.service`, errors become problem documents."""
