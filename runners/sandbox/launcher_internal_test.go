package sandbox

import (
	"maps"
	"slices"
)

// WithoutReaper has the launcher do as where no reaper is written.
func (n *Namespaces) WithoutReaper() { n.reaper = nil }

// Running are the sandboxes that have not given back all that they held.
func (l *launcher) Running() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.running))
}

// Running are the programs that have not been reaped.
func (p *Plain) Running() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.running))
}
