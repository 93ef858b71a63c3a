package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/yamux"
)

func init() { register("gotunnel-agent", runTunnelAgent) }

type tunnelAgent struct {
	address, ca, secret, issuer string
	serverName                  string
	insecure, mute              bool
	routes, modes               map[string]string
}

// runTunnelAgent is an agent of go-tunnel's that says what happens to it.
func runTunnelAgent(arguments []string) error {
	a := tunnelAgent{routes: map[string]string{}, modes: map[string]string{}}
	flags := flag.NewFlagSet("gotunnel-agent", flag.ExitOnError)
	flags.StringVar(&a.address, "server", "", "`address` of the server's tunnel port")
	flags.StringVar(&a.ca, "ca", "", "PEM `file` with who signed the server's certificate")
	flags.BoolVar(&a.insecure, "skip-tls-verify", false, "believe whoever answers")
	flags.StringVar(&a.secret, "secret", "", "for the tokens")
	flags.StringVar(&a.issuer, "issuer", "interop", "in the tokens")
	flags.BoolVar(&a.mute, "mute", false, "answer no pings")
	pause := flags.Duration("pause", 2*time.Second, "between two attempts; 0: only one")
	flags.Func("tunnel", "`HOST=TARGET=MODE`; may be repeated", func(text string) error {
		parts := strings.Split(text, "=")
		if len(parts) != 3 {
			return errors.New("not HOST=TARGET=MODE")
		}
		if a.serverName == "" {
			a.serverName = parts[0]
		}
		a.routes[parts[0]], a.modes[parts[0]] = parts[1], parts[2]
		return nil
	})
	flags.Parse(arguments)
	for {
		announce("ended", fmt.Sprint(a.session()))
		if *pause == 0 {
			return nil
		}
		time.Sleep(*pause)
	}
}

func (a *tunnelAgent) session() error {
	config := &tls.Config{InsecureSkipVerify: a.insecure, ServerName: a.serverName}
	if a.ca != "" {
		pem, err := os.ReadFile(a.ca)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	conn, err := tls.Dial("tcp", a.address, config)
	if err != nil {
		return err
	}
	session, err := yamux.Client(conn, yamux.DefaultConfig())
	if err != nil {
		return err
	}
	defer session.Close()
	control, err := session.Open()
	if err != nil {
		return err
	}
	encoder, decoder := json.NewEncoder(control), json.NewDecoder(control)
	token := makeToken(a.secret, a.issuer, time.Hour)
	err = encoder.Encode(tunnelMessage{Type: "register", Token: token, Routes: a.routes, Modes: a.modes})
	if err != nil {
		return err
	}
	var ack tunnelMessage
	if err := decoder.Decode(&ack); err != nil {
		return err
	}
	if ack.Type != "ack" || !ack.OK {
		return fmt.Errorf("refused: %s", ack.Error)
	}
	announce("registered", "")
	go func() {
		for {
			stream, err := session.Accept()
			if err != nil {
				return
			}
			go a.serve(stream)
		}
	}()
	for {
		var message tunnelMessage
		if err := decoder.Decode(&message); err != nil {
			return err
		}
		announce(message.Type, message.Error)
		if message.Type == "ping" && !a.mute {
			if err := encoder.Encode(tunnelMessage{Type: "pong", TS: milliseconds()}); err != nil {
				return err
			}
		}
	}
}

func (a *tunnelAgent) serve(stream net.Conn) {
	defer stream.Close()
	host, err := readPreamble(stream)
	if err != nil {
		announce("bad-preamble", err.Error())
		return
	}
	announce("stream", host)
	conn, err := net.Dial("tcp", a.routes[host])
	if err != nil {
		if a.modes[host] == "http" {
			fmt.Fprint(stream, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
		return
	}
	join(stream, conn.(*net.TCPConn))
}
