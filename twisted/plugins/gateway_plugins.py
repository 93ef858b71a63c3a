"""The twistd commands of txgateway: names and module paths only."""

from twisted.application.service import ServiceMaker

tabbyGateway = ServiceMaker(
    "Tabby connection gateway",
    "gateway.service.tabby_tap",
    "A gateway through which Tabby Web, a terminal in the browser, reaches ssh and telnet hosts",
    "tabby-gateway",
)

relay = ServiceMaker(
    "Relay",
    "gateway.service.relay_tap",
    "A relay from any endpoint to any other: TCP, TLS, WebSocket, yamux, UNIX sockets, standard input and output",
    "relay",
)

gateway = ServiceMaker(
    "Gateway",
    "gateway.service.gateway_tap",
    "The server end of the tunnel: agents attach to it, and visitors reach through it what is behind them",
    "gateway",
)

agent = ServiceMaker(
    "Gateway agent",
    "gateway.service.agent_tap",
    "The agent end of the tunnel: attaches to a gateway, and leads its visitors to what is near the agent",
    "gateway-agent",
)

gotunnelServer = ServiceMaker(
    "go-tunnel server",
    "gateway.service.gotunnel_server_tap",
    "A gateway for agents of go-tunnel, with the settings of go-tunnel's server",
    "gotunnel-server",
)

gotunnelAgent = ServiceMaker(
    "go-tunnel agent",
    "gateway.service.gotunnel_agent_tap",
    "An agent for a server of go-tunnel, or for ours, with the configuration of go-tunnel's agent",
    "gotunnel-agent",
)

networkRelay = ServiceMaker(
    "Network relay",
    "gateway.service.network_relay_tap",
    "A relay for edge agents and access clients, ours and http-network-relay's",
    "network-relay",
)

edgeAgent = ServiceMaker(
    "Edge agent",
    "gateway.service.edge_agent_tap",
    "An edge agent for a network relay, ours or http-network-relay's, which leads people to what is near it",
    "edge-agent",
)

pipegateServer = ServiceMaker(
    "PipeGate server",
    "gateway.service.pipegate_server_tap",
    "A server for clients of PipeGate, with the options of PipeGate's server",
    "pipegate-server",
)

pipegateClient = ServiceMaker(
    "PipeGate client",
    "gateway.service.pipegate_client_tap",
    "A client for a server of PipeGate, or for ours, with the options of PipeGate's client",
    "pipegate-client",
)
