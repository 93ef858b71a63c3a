package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"sync"

	"github.com/hashicorp/yamux"
)

func init() { register("peer", runPeer) }

// An order is a line of standard input, an answer one of standard output. Orders run at the same time, so that one may
// block; who needs an order to be over before the next one awaits its answer.
type order struct {
	ID     int    `json:"id"`
	Do     string `json:"do"`
	Stream uint32 `json:"stream"`
	Count  int64  `json:"count"` // of bytes, or of streams
	Most   int64  `json:"most"`  // bytes at once, or on a stream
}

type answer struct {
	ID      int     `json:"id"`
	Address string  `json:"address,omitempty"`
	Stream  uint32  `json:"stream,omitempty"`
	Count   int64   `json:"count"`
	Digest  string  `json:"digest,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// A peer is one end of a yamux session that does as it is told.
type peer struct {
	session *yamux.Session

	outputLock sync.Mutex
	output     *json.Encoder

	streamsLock sync.Mutex
	streams     map[uint32]*yamux.Stream
}

// runPeer says where it listens, if it does, then that the session is there, and then answers orders until there are
// no more. Its two own messages have the ID 0.
func runPeer(arguments []string) error {
	config := yamux.DefaultConfig()
	carrier := carrier{}
	flags := flag.NewFlagSet("peer", flag.ExitOnError)
	carrier.addFlags(flags)
	window := flags.Uint("window", uint(config.MaxStreamWindowSize), "`bytes` that a stream may receive ahead")
	flags.IntVar(&config.AcceptBacklog, "backlog", config.AcceptBacklog, "`streams` that wait to be accepted")
	flags.BoolVar(&config.EnableKeepAlive, "keepalive", false, "ping now and then")
	flags.DurationVar(&config.KeepAliveInterval, "keepalive-interval", config.KeepAliveInterval, "between pings")
	flags.DurationVar(&config.ConnectionWriteTimeout, "write-timeout", config.ConnectionWriteTimeout,
		"for the connection to take a frame, and for the answer to a ping")
	flags.DurationVar(&config.StreamOpenTimeout, "open-timeout", config.StreamOpenTimeout, "for a stream's ACK")
	flags.DurationVar(&config.StreamCloseTimeout, "close-timeout", config.StreamCloseTimeout,
		"from our FIN to the other's, before the stream is reset")
	flags.Parse(arguments)
	config.MaxStreamWindowSize = uint32(*window)

	p := &peer{output: json.NewEncoder(os.Stdout), streams: map[uint32]*yamux.Stream{}}
	conn, err := carrier.connect(func(address string) { p.tell(answer{Address: address}) })
	if err != nil {
		return err
	}
	if p.session, err = carrier.session(conn, config); err != nil {
		return err
	}
	p.tell(answer{})
	return p.obey(bufio.NewScanner(os.Stdin))
}

func (p *peer) tell(a answer) {
	p.outputLock.Lock()
	defer p.outputLock.Unlock()
	p.output.Encode(a)
}

func (p *peer) obey(lines *bufio.Scanner) error {
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		go func() {
			a, err := p.do(o)
			a.ID = o.ID
			if err != nil {
				a.Error = err.Error()
			}
			p.tell(a)
		}()
	}
	return lines.Err()
}

func (p *peer) do(o order) (a answer, err error) {
	switch o.Do {
	case "open":
		return p.keep(p.session.OpenStream())
	case "accept":
		return p.keep(p.session.AcceptStream())
	case "ping":
		rtt, err := p.session.Ping()
		return answer{Seconds: rtt.Seconds()}, err
	case "streams":
		return answer{Count: int64(p.session.NumStreams())}, nil
	case "goaway":
		return a, p.session.GoAway()
	case "shutdown":
		return a, p.session.Close()
	case "wait":
		<-p.session.CloseChan()
		return a, nil
	case "echo":
		return a, p.echo()
	case "exchange":
		return p.exchange(int(o.Count), o.Most)
	}
	p.streamsLock.Lock()
	stream := p.streams[o.Stream]
	p.streamsLock.Unlock()
	if stream == nil {
		return a, fmt.Errorf("there is no stream %d", o.Stream)
	}
	digest := sha256.New()
	switch o.Do {
	case "write": // that many bytes of its own choice, the most at once
		if o.Most == 0 {
			o.Most = o.Count
		}
		a.Count, err = copyPieces(io.MultiWriter(stream, digest), noise(stream), o.Count, o.Most)
	case "read": // that many bytes
		a.Count, err = io.CopyN(digest, stream, o.Count)
	case "drain": // until the end
		a.Count, err = io.Copy(digest, stream)
	case "close":
		err = stream.Close()
	default:
		err = fmt.Errorf("%q is not known", o.Do)
	}
	a.Digest = hex.EncodeToString(digest.Sum(nil))
	return a, err
}

// copyPieces copies so many bytes, the most at once: neither end may choose pieces of its own, as with io.Copy.
func copyPieces(to io.Writer, from io.Reader, count, most int64) (done int64, err error) {
	piece := make([]byte, most)
	for done < count && err == nil {
		if left := count - done; left < most {
			piece = piece[:left]
		}
		if _, err = io.ReadFull(from, piece); err == nil {
			var written int
			written, err = to.Write(piece)
			done += int64(written)
		}
	}
	return done, err
}

// noise is payload without end that is the same in each run, and another on each stream.
func noise(stream *yamux.Stream) io.Reader {
	return rand.New(rand.NewSource(int64(stream.StreamID())))
}

func (p *peer) keep(stream *yamux.Stream, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	p.streamsLock.Lock()
	defer p.streamsLock.Unlock()
	p.streams[stream.StreamID()] = stream
	return answer{Stream: stream.StreamID()}, nil
}

// echo accepts streams and sends back what comes on them, to the end, until the session is over.
func (p *peer) echo() error {
	for {
		stream, err := p.session.AcceptStream()
		if err != nil {
			return err
		}
		go func() {
			io.Copy(stream, stream)
			stream.Close()
		}()
	}
}

// exchange opens so many streams, sends up to so many bytes on each and ends it, and expects them back. The answer
// counts the bytes.
func (p *peer) exchange(count int, most int64) (answer, error) {
	streams := make([]*yamux.Stream, count)
	for i := range streams {
		var err error
		if streams[i], err = p.session.OpenStream(); err != nil {
			return answer{}, err
		}
	}
	sizes := rand.New(rand.NewSource(1))
	results := make(chan error, count)
	total := int64(0)
	for _, stream := range streams {
		stream, size := stream, sizes.Int63n(most+1)
		total += size
		go func() { results <- exchangeOn(stream, size) }()
	}
	for range streams {
		if err := <-results; err != nil {
			return answer{}, err
		}
	}
	return answer{Count: total}, nil
}

func exchangeOn(stream *yamux.Stream, size int64) error {
	sent, received := sha256.New(), sha256.New()
	written := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.MultiWriter(stream, sent), noise(stream), size)
		if err == nil {
			err = stream.Close()
		}
		written <- err
	}()
	count, err := io.Copy(received, stream)
	if err != nil {
		return err
	}
	if err := <-written; err != nil {
		return err
	}
	if count != size || !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		return fmt.Errorf("stream %d: %d bytes came back for %d, or other ones", stream.StreamID(), count, size)
	}
	return nil
}
