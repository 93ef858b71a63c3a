package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/hashicorp/yamux"
)

// A carrier is the connection below a session, as flags describe it. Who dials is the yamux client.
type carrier struct {
	listen, dial, cert, key, ca string
}

func (c *carrier) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.listen, "listen", "", "accept one connection at this `address`")
	flags.StringVar(&c.dial, "dial", "", "connect to this `address`")
	flags.StringVar(&c.cert, "cert", "", "accept with TLS: PEM `file` with the certificates")
	flags.StringVar(&c.key, "key", "", "PEM `file` with the certificate's key")
	flags.StringVar(&c.ca, "ca", "", "connect with TLS: PEM `file` with who signed the other's certificate")
}

// connect makes the connection. It tells listening where it listens, if it does.
func (c *carrier) connect(listening func(address string)) (net.Conn, error) {
	if c.dial == "" {
		return c.accept(listening)
	}
	if c.ca == "" {
		return net.Dial("tcp", c.dial)
	}
	pem, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", c.ca)
	}
	return tls.Dial("tcp", c.dial, &tls.Config{RootCAs: roots})
}

func (c *carrier) accept(listening func(address string)) (net.Conn, error) {
	address, err := net.ResolveTCPAddr("tcp", c.listen)
	if err != nil {
		return nil, err
	}
	listener, err := net.ListenTCP("tcp", address)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	listener.SetDeadline(time.Now().Add(time.Minute)) // who wanted to connect may be dead
	listening(listener.Addr().String())
	conn, err := listener.Accept()
	if err != nil || c.cert == "" {
		return conn, err
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, err
	}
	return tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}}), nil
}

// session puts yamux on the connection.
func (c *carrier) session(conn net.Conn, config *yamux.Config) (*yamux.Session, error) {
	if c.dial != "" {
		return yamux.Client(conn, config)
	}
	return yamux.Server(conn, config)
}
