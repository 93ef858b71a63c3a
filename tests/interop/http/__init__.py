"""Web servers and those who visit them, through a gateway and an agent: programs of others, as they are."""
