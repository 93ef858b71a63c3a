package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"
)

// What bench/yamuxends.py is with our library, this is with hashicorp's: the two ends of a session that measure it.
// The words of standard input and output, and the first bytes of the streams, are explained there.

func init() { register("bench", runBench) }

const message = 64

type bench struct {
	config  *yamux.Config
	session *yamux.Session
	input   *os.File
	meter   meter
	streams int
	block   int
}

func runBench(arguments []string) error {
	b := bench{config: yamux.DefaultConfig()}
	b.config.LogOutput = io.Discard // it tells that the other end is gone
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	listen := flags.String("listen", "", "accept the session at this `address`")
	dial := flags.String("dial", "", "connect to the other end at this `address`")
	load := flags.String("load", "", "with -dial: what to do")
	window := flags.Uint("window", uint(b.config.MaxStreamWindowSize), "`bytes` that a stream may receive ahead")
	warm := flags.Float64("warm", 0, "`seconds` before the measurement")
	span := flags.Float64("span", 1, "`seconds` of the measurement")
	flags.IntVar(&b.streams, "streams", 1, "streams at a time")
	flags.IntVar(&b.block, "block", 64*1024, "`bytes` of a write, and of a buffer for reading, in bulk")
	flags.Parse(arguments)
	b.config.MaxStreamWindowSize = uint32(*window)
	b.meter.warm, b.meter.span = seconds(*warm), seconds(*span)

	// So that what comes in wakes us as a socket would.
	if err := syscall.SetNonblock(0, true); err != nil {
		return err
	}
	b.input = os.NewFile(0, "standard input")
	run := func() error { return b.connect(*dial, *load) }
	if *dial == "" {
		run = func() error { return b.accept(*listen) }
	}
	if err := run(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, b.input)
	return err
}

func (b *bench) accept(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	if b.session, err = yamux.Server(conn, b.config); err != nil {
		return err
	}
	go b.serve()
	return nil
}

func (b *bench) connect(address, load string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	if b.session, err = yamux.Client(conn, b.config); err != nil {
		return err
	}
	return b.load(load)
}

func seconds(count float64) time.Duration { return time.Duration(count * float64(time.Second)) }

// A meter counts what is added in a span of time, once it has warmed up.
type meter struct {
	warm, span time.Duration
	count      atomic.Int64
	once       sync.Once
}

// start begins, unless that was done before.
func (m *meter) start(begun func(), done func(count int64, took time.Duration)) {
	m.once.Do(func() {
		go func() {
			time.Sleep(m.warm)
			begun()
			before, since := m.count.Load(), time.Now()
			time.Sleep(m.span)
			done(m.count.Load()-before, time.Since(since))
		}()
	})
}

// The accepting end.

func (b *bench) serve() {
	for {
		stream, err := b.session.AcceptStream()
		if err != nil {
			return
		}
		go b.serveStream(stream)
	}
}

func (b *bench) serveStream(stream *yamux.Stream) {
	defer stream.Close()
	// Exactly what one message needs: memory is measured too.
	buffer := make([]byte, message)
	count, err := stream.Read(buffer)
	if err != nil {
		return
	}
	switch buffer[0] {
	case 'd':
		b.flood(stream)
	case 'u':
		b.meter.start(
			func() { stream.Write([]byte{'b'}) },
			func(count int64, took time.Duration) {
				binary.Write(stream, binary.BigEndian, []int64{count, int64(took)})
			})
		b.sink(stream)
	case 'g':
		debug.FreeOSMemory()
		stream.Write(buffer[:1])
	default:
		for ; err == nil; count, err = stream.Read(buffer) {
			if _, err := stream.Write(buffer[:count]); err != nil {
				return
			}
		}
	}
}

func (b *bench) flood(stream *yamux.Stream) {
	block := make([]byte, b.block)
	for {
		if _, err := stream.Write(block); err != nil {
			return
		}
	}
}

func (b *bench) sink(stream *yamux.Stream) {
	buffer := make([]byte, b.block)
	for {
		count, err := stream.Read(buffer)
		if err != nil {
			return
		}
		b.meter.count.Add(int64(count))
	}
}

// The connecting end.

type sample struct {
	Count int64   `json:"count"`
	Nanos int64   `json:"nanoseconds"`
	Times []int64 `json:"times,omitempty"`
}

func begin() { fmt.Println("begin") }

func (s sample) tell() {
	fmt.Println("end")
	json.NewEncoder(os.Stdout).Encode(s)
}

func tell(count int64, took time.Duration) { sample{Count: count, Nanos: int64(took)}.tell() }

func (b *bench) load(name string) error {
	switch name {
	case "upload":
		return b.upload()
	case "download":
		return b.download()
	case "visits":
		return b.visits()
	case "pingpong":
		return b.pingpong()
	case "beside":
		return b.beside()
	case "idle":
		return b.idle()
	}
	return errors.New("no such load: " + name)
}

// open opens a stream and says what the other end is to do on it.
func (b *bench) open(what byte) (*yamux.Stream, error) {
	stream, err := b.session.OpenStream()
	if err == nil {
		_, err = stream.Write([]byte{what})
	}
	return stream, err
}

func (b *bench) upload() error {
	for i := 0; i < b.streams; i++ {
		stream, err := b.open('u')
		if err != nil {
			return err
		}
		go b.flood(stream)
		go report(stream, func(s sample) { s.tell() })
	}
	return nil
}

// report waits for what the meter at the other end says, on the one stream on which it does.
func report(stream *yamux.Stream, done func(sample)) {
	if _, err := io.ReadFull(stream, make([]byte, 1)); err != nil {
		return
	}
	begin()
	var figures [2]int64
	if err := binary.Read(stream, binary.BigEndian, &figures); err == nil {
		done(sample{Count: figures[0], Nanos: figures[1]})
	}
}

func (b *bench) download() error {
	for i := 0; i < b.streams; i++ {
		stream, err := b.open('d')
		if err != nil {
			return err
		}
		go b.sink(stream)
	}
	b.meter.start(begin, tell)
	return nil
}

func (b *bench) visits() error {
	b.meter.start(begin, tell)
	for i := 0; i < b.streams; i++ {
		go func() {
			buffer := make([]byte, message)
			for b.visit(buffer) == nil {
				b.meter.count.Add(1)
			}
		}()
	}
	return nil
}

func (b *bench) visit(buffer []byte) error {
	stream, err := b.session.OpenStream()
	if err != nil {
		return err
	}
	buffer[0] = 'e'
	if _, err := stream.Write(buffer); err != nil {
		return err
	}
	if _, err := io.ReadFull(stream, buffer); err != nil {
		return err
	}
	return stream.Close()
}

func (b *bench) pingpong() error {
	stream, err := b.session.OpenStream()
	if err != nil {
		return err
	}
	buffer := make([]byte, message)
	buffer[0] = 'e'
	exchange := func() (took time.Duration, err error) {
		begun := time.Now()
		if _, err = stream.Write(buffer); err == nil {
			_, err = io.ReadFull(stream, buffer)
		}
		return time.Since(begun), err
	}
	for begun := time.Now(); time.Since(begun) < b.meter.warm; {
		if _, err := exchange(); err != nil {
			return err
		}
	}
	begin()
	s := sample{}
	for begun := time.Now(); s.Nanos < int64(b.meter.span); s.Nanos = int64(time.Since(begun)) {
		took, err := exchange()
		if err != nil {
			return err
		}
		s.Times = append(s.Times, int64(took))
	}
	s.Count = int64(len(s.Times))
	s.tell()
	return nil
}

func (b *bench) beside() error {
	echo, err := b.open('e')
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(echo, make([]byte, 1)); err != nil {
		return err
	}
	bulk, err := b.open('u')
	if err != nil {
		return err
	}
	figures := make(chan sample, 1)
	go b.flood(bulk)
	go report(bulk, func(s sample) { figures <- s })
	go func() {
		var times []int64
		buffer := make([]byte, message)
		for {
			if _, err := io.ReadFull(echo, buffer); err != nil {
				return
			}
			sent := int64(binary.BigEndian.Uint64(buffer))
			if sent == 0 {
				break
			}
			times = append(times, time.Now().UnixNano()-sent)
		}
		s := <-figures
		s.Times = times
		s.tell()
	}()
	_, err = io.CopyBuffer(echo, b.input, make([]byte, 64*message))
	return err
}

func (b *bench) idle() error {
	collect := func() error {
		debug.FreeOSMemory()
		stream, err := b.open('g')
		if err != nil {
			return err
		}
		defer stream.Close()
		_, err = io.ReadFull(stream, make([]byte, 1))
		return err
	}
	if err := collect(); err != nil {
		return err
	}
	begin()
	if _, err := io.ReadFull(b.input, make([]byte, 1)); err != nil {
		return err
	}
	streams := make([]*yamux.Stream, b.streams)
	var err error
	for i := range streams {
		if streams[i], err = b.open('e'); err != nil {
			return err
		}
	}
	for _, stream := range streams {
		if _, err := io.ReadFull(stream, make([]byte, 1)); err != nil {
			return err
		}
	}
	if err := collect(); err != nil {
		return err
	}
	tell(int64(len(streams)), 0)
	_, err = io.Copy(io.Discard, b.input)
	for _, stream := range streams { // they live until here
		stream.Close()
	}
	return err
}
