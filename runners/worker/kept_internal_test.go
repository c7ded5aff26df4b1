package worker

// Settle waits until nothing is being made ahead of need.
func (p *Pool) Settle() { p.making.Wait() }

// Starve has the machine seem to have no memory left.
func (p *Pool) Starve() { p.free = func() int64 { return 0 } }

// Bytes is what the zygotes of a folder's environment are counted as.
func (p *Pool) Bytes(dir string) (all []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, z := range p.shelves[dir].all() {
		all = append(all, z.memory)
	}
	return all
}
