package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
)

// ports are chosen once per data directory and kept in a file, so that
// addresses stay the same from start to start.
type ports struct {
	mu   sync.Mutex
	path string
	kept map[string]int
}

func loadPorts(path string) (*ports, error) {
	p := &ports{path: path, kept: map[string]int{}}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && json.Unmarshal(text, &p.kept) != nil {
		p.kept = map[string]int{} // nothing is lost by choosing again
	}
	return p, nil
}

func (p *ports) of(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept[name]
}

// address is where the named port listens.
func (p *ports) address(name string) string {
	return local(p.of(name))
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// settle makes sure that each named port can be listened on now: a kept one
// that somebody else has taken is replaced. It returns what was replaced, in
// words. The ports are free when it returns, so whoever is to listen on them
// must do so soon.
func (p *ports) settle(names ...string) (replaced []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := maps.Clone(p.kept)
	for _, name := range names {
		held, err := p.hold(name)
		if err != nil {
			return nil, err
		}
		// Held until all are settled, so that no two names get one port.
		defer held.Close()
		if was := before[name]; was != 0 && was != p.kept[name] {
			replaced = append(replaced, fmt.Sprintf("port %d is taken by somebody else, using %d", was, p.kept[name]))
		}
	}
	if maps.Equal(before, p.kept) {
		return nil, nil
	}
	return replaced, writeJSON(p.path, p.kept)
}

func (p *ports) hold(name string) (net.Listener, error) {
	if kept := p.kept[name]; kept != 0 {
		if held, err := listenOn(kept); err == nil {
			return held, nil
		}
	}
	// Below the range from which Linux takes the ports of outgoing connections:
	// one of those could sit on a part's port while the part restarts.
	for range 100 {
		port := 20000 + rand.IntN(12000) //nolint:gosec // any will do
		if slices.Contains(slices.Collect(maps.Values(p.kept)), port) {
			continue
		}
		if held, err := listenOn(port); err == nil {
			p.kept[name] = port
			return held, nil
		}
	}
	held, err := listenOn(0)
	if err != nil {
		return nil, fmt.Errorf("no free port on 127.0.0.1: %w", err)
	}
	p.kept[name] = portOf(held)
	return held, nil
}

func listenOn(port int) (net.Listener, error) {
	return net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
}

func portOf(l net.Listener) int {
	return l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // listenOn makes no others
}
