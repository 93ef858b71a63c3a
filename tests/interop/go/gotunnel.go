package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// What both ends of go-tunnel's protocol share: messages, tokens, preambles and the copying of bytes. Written from the
// description of what crosses the wire, in docs/reference/protocols/gotunnel.md.

type tunnelMessage struct {
	Type   string            `json:"type"`
	Token  string            `json:"token,omitempty"`
	Routes map[string]string `json:"routes,omitempty"`
	Modes  map[string]string `json:"modes,omitempty"`
	OK     bool              `json:"ok,omitempty"`
	Error  string            `json:"error,omitempty"`
	TS     int64             `json:"ts,omitempty"`
}

func milliseconds() int64 { return time.Now().UnixNano() / int64(time.Millisecond) }

// An occurrence is a line of standard output, for the test.
type occurrence struct {
	Event  string `json:"event"`
	Detail string `json:"detail"`
}

var announceLock sync.Mutex

func announce(event, detail string) {
	announceLock.Lock()
	defer announceLock.Unlock()
	json.NewEncoder(os.Stdout).Encode(occurrence{event, detail})
}

func sign(text, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func makeToken(secret, issuer string, lifetime time.Duration) string {
	claims, _ := json.Marshal(map[string]any{
		"iss": issuer, "iat": time.Now().Unix(), "exp": time.Now().Add(lifetime).Unix(),
	})
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(claims)
	return text + "." + sign(text, secret)
}

func checkToken(token, secret string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || !hmac.Equal([]byte(sign(parts[0]+"."+parts[1], secret)), []byte(parts[2])) {
		return errors.New("not signed with the secret")
	}
	var claims struct {
		Exp int64 `json:"exp"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err == nil && time.Now().Unix() >= claims.Exp {
		err = errors.New("expired")
	}
	return err
}

func writePreamble(to io.Writer, host string) error {
	preamble := append([]byte{1, 0, 0}, host...)
	binary.BigEndian.PutUint16(preamble[1:], uint16(len(host)))
	_, err := to.Write(preamble)
	return err
}

func readPreamble(from io.Reader) (string, error) {
	head := make([]byte, 3)
	if _, err := io.ReadFull(from, head); err != nil {
		return "", err
	}
	if head[0] != 1 {
		return "", fmt.Errorf("version %d", head[0])
	}
	host := make([]byte, binary.BigEndian.Uint16(head[1:]))
	_, err := io.ReadFull(from, host)
	return string(host), err
}

// join copies both ways. An end of one direction ends that direction alone: a stream of yamux can still be read after
// it was closed.
func join(stream net.Conn, conn *net.TCPConn) {
	var both sync.WaitGroup
	both.Add(2)
	go func() {
		defer both.Done()
		io.Copy(conn, stream)
		conn.CloseWrite()
	}()
	go func() {
		defer both.Done()
		io.Copy(stream, conn)
		stream.Close()
	}()
	both.Wait()
	conn.Close()
}
