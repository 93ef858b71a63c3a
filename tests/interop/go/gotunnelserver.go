package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

func init() { register("gotunnel-server", runTunnelServer) }

type tunnelServer struct {
	secret                    string
	pingInterval, pongTimeout time.Duration

	lock     sync.Mutex
	sessions map[string]*yamux.Session // by host
}

// runTunnelServer is a server of go-tunnel's that says what happens to it. Instead of a public HTTPS port it has one where
// a visitor names a host on the first line; what follows is the stream's.
func runTunnelServer(arguments []string) error {
	s := tunnelServer{sessions: map[string]*yamux.Session{}}
	flags := flag.NewFlagSet("gotunnel-server", flag.ExitOnError)
	tunnel := flags.String("tunnel", "127.0.0.1:0", "`address` for agents")
	public := flags.String("public", "127.0.0.1:0", "`address` for visitors")
	cert := flags.String("cert", "", "PEM `file` with the certificates")
	key := flags.String("key", "", "PEM `file` with the certificate's key")
	flags.StringVar(&s.secret, "secret", "", "of the tokens")
	flags.DurationVar(&s.pingInterval, "ping-interval", 15*time.Second, "between pings")
	flags.DurationVar(&s.pongTimeout, "pong-timeout", 20*time.Second, "for an agent to answer")
	flags.Parse(arguments)
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		return err
	}
	agents, err := tls.Listen("tcp", *tunnel, &tls.Config{
		Certificates: []tls.Certificate{pair},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			announce("hello", fmt.Sprint(hello.ServerName, hello.SupportedProtos))
			return nil, nil
		},
	})
	if err != nil {
		return err
	}
	visitors, err := net.Listen("tcp", *public)
	if err != nil {
		return err
	}
	announce("tunnel", agents.Addr().String())
	announce("public", visitors.Addr().String())
	go func() {
		for {
			if conn, err := visitors.Accept(); err == nil {
				go s.visit(conn.(*net.TCPConn))
			}
		}
	}()
	for {
		conn, err := agents.Accept()
		if err != nil {
			return err
		}
		go func() { announce("ended", fmt.Sprint(s.attach(conn))) }()
	}
}

func (s *tunnelServer) attach(conn net.Conn) error {
	session, err := yamux.Server(conn, yamux.DefaultConfig())
	if err != nil {
		return err
	}
	defer session.Close()
	control, err := session.Accept()
	if err != nil {
		return err
	}
	encoder, decoder := json.NewEncoder(control), json.NewDecoder(control)
	var message tunnelMessage
	if err := decoder.Decode(&message); err != nil {
		return err
	}
	if problem := s.take(message, session); problem != "" {
		encoder.Encode(map[string]any{"type": "ack", "ok": false, "error": problem})
		time.Sleep(100 * time.Millisecond) // so that the agent reads it before the end
		return fmt.Errorf("refused: %s", problem)
	}
	defer s.release(session)
	if err := encoder.Encode(map[string]any{"type": "ack", "ok": true}); err != nil {
		return err
	}
	announce("registered", fmt.Sprint(message.Routes, message.Modes))
	pongs := make(chan struct{}, 1)
	go func() {
		for {
			var message tunnelMessage
			if err := decoder.Decode(&message); err != nil || message.Type != "pong" {
				session.Close()
				return
			}
			announce("pong", "")
			select {
			case pongs <- struct{}{}:
			default:
			}
		}
	}()
	return s.heartbeat(session, encoder, pongs)
}

func (s *tunnelServer) heartbeat(session *yamux.Session, encoder *json.Encoder, pongs chan struct{}) error {
	pings := time.NewTicker(s.pingInterval)
	defer pings.Stop()
	last := time.Now()
	for {
		select {
		case <-pings.C:
			if time.Since(last) > s.pongTimeout {
				return fmt.Errorf("no pong")
			}
			if err := encoder.Encode(tunnelMessage{Type: "ping", TS: milliseconds()}); err != nil {
				return err
			}
		case <-pongs:
			last = time.Now()
		case <-session.CloseChan():
			return fmt.Errorf("closed")
		}
	}
}

// take registers what a first message asks for, or says why not.
func (s *tunnelServer) take(message tunnelMessage, session *yamux.Session) string {
	if message.Type != "register" || checkToken(message.Token, s.secret) != nil {
		return "auth failed"
	}
	if len(message.Routes) == 0 {
		return "no routes"
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	for host := range message.Routes {
		if s.sessions[host] != nil {
			return "host already registered: " + host
		}
	}
	for host := range message.Routes {
		s.sessions[host] = session
	}
	return ""
}

func (s *tunnelServer) release(session *yamux.Session) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for host, each := range s.sessions {
		if each == session {
			delete(s.sessions, host)
		}
	}
}

func (s *tunnelServer) visit(conn *net.TCPConn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil {
		return
	}
	host := strings.TrimSpace(line)
	s.lock.Lock()
	session := s.sessions[host]
	s.lock.Unlock()
	if session == nil {
		fmt.Fprintf(conn, "no tunnel for host %s\n", host)
		return
	}
	stream, err := session.Open()
	if err != nil {
		return
	}
	if writePreamble(stream, host) != nil {
		return
	}
	ahead, _ := reader.Peek(reader.Buffered())
	if _, err := stream.Write(ahead); err == nil {
		join(stream, conn)
	}
}
