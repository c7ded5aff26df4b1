package sandbox

// WithoutReaper has the launcher do as where no reaper is written.
func (n *Namespaces) WithoutReaper() { n.reaper = nil }
