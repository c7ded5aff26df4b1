//go:build !amd64

package sandbox

// reaper is not written for this architecture: what has set a sandbox up waits in its place.
func reaper() []byte { return nil }
