package worker

// Settle waits until nothing is being made ahead of need.
func (p *Pool) Settle() { p.making.Wait() }
