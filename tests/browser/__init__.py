"""The real Tabby app in a real browser, through the gateway."""
