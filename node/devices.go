package node

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators"
	"github.com/warpket/warpket/runners/worker"
)

// GPUs are the machine's GPUs, as an agent needs them.
type GPUs interface {
	// Load is what each of them is doing.
	Load() map[string]warpket.Load
	// Watch calls found for each fault that one gets, until ctx ends.
	Watch(ctx context.Context, found func(device, fault string))
	// Take notes how the GPUs of a slot are before it.
	Take(ids []string) (accelerators.Lease, error)
}

// lookAtLoad is how often an agent looks at what GPUs are doing.
const lookAtLoad = 5 * time.Second

// returnTime is how long a GPU may take to be as it was before a slot.
const returnTime = 10 * time.Second

// watchDevices keeps what is known of the devices true, until ctx ends.
func (a *Agent) watchDevices(ctx context.Context) {
	if a.config.Speed != nil {
		a.running.Go(func() { a.measureSpeed(ctx) })
	}
	if a.config.GPUs == nil || !slices.ContainsFunc(a.config.Inventory.Devices, func(d warpket.Device) bool { return d.Kind == warpket.NVIDIA && !d.Simulated }) {
		return
	}
	a.running.Go(func() { a.config.GPUs.Watch(ctx, a.foundFault) })
	a.running.Go(func() { a.watchLoad(ctx) })
}

func (a *Agent) watchLoad(ctx context.Context) {
	tick := time.NewTicker(lookAtLoad)
	defer tick.Stop()
	for {
		b, _ := json.Marshal(a.config.GPUs.Load()) // numbers and words: cannot fail
		a.loads.Store(&b)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Loads is what the GPUs were doing a moment ago.
func (a *Agent) Loads() []byte {
	if b := a.loads.Load(); b != nil {
		return *b
	}
	return nil
}

// measureSpeed says how fast the machine's own simulator is.
func (a *Agent) measureSpeed(ctx context.Context) {
	speed, err := a.config.Speed(ctx)
	if err != nil && ctx.Err() == nil {
		a.config.Log.Warn("how fast this machine simulates is not known, or measured again at the next start", "error", err)
	}
	if len(speed) > 0 {
		a.changeDevices(func(d *warpket.Device) {
			if d.Kind == warpket.QuantumSimulator && !d.Simulated {
				d.Speed = speed
			}
		})
	}
}

// foundFault takes a device out of service: the servers place no more slots on
// it, and have those that it has moved.
func (a *Agent) foundFault(device, fault string) {
	a.config.Log.Error("device has a fault", "device", device, "fault", fault)
	a.changeDevices(func(d *warpket.Device) {
		if d.ID == device {
			d.Fault = fault
		}
	})
}

// changeDevices changes what is known of devices, and tells the servers.
func (a *Agent) changeDevices(change func(*warpket.Device)) {
	a.telling.Lock() // so that the last that is told is how they are
	defer a.telling.Unlock()
	a.mu.Lock()
	a.devices = slices.Clone(a.devices)
	for i := range a.devices {
		change(&a.devices[i])
	}
	devices := a.devices
	a.mu.Unlock()
	b, _ := json.Marshal(devices) // plain data: cannot fail
	a.client.Devices(b)
}

// takeDevices makes sure that the node has the devices of a slot, and takes its
// GPUs.
func (s *slot) takeDevices() (err error) {
	var gpus, missing []string
	s.agent.mu.Lock()
	devices := s.agent.devices
	s.agent.mu.Unlock()
	for _, id := range s.in.GetDevices() {
		i := slices.IndexFunc(devices, func(d warpket.Device) bool { return d.ID == id })
		switch {
		case i < 0:
			missing = append(missing, id)
		case devices[i].Simulated:
			s.simulated = true
		case devices[i].Kind == warpket.NVIDIA:
			gpus = append(gpus, id)
		}
	}
	switch {
	case len(missing) > 0:
		return warpket.Errorf(warpket.Unavailable, "this node no longer has %s", strings.Join(missing, ", "))
	case len(gpus) == 0 || s.simulated:
		return nil
	case s.in.GetImage() != nil:
		return warpket.Errorf(warpket.Invalid, "functions that come as an image cannot use GPUs: use a template with CUDA")
	}
	s.lease, err = s.agent.config.GPUs.Take(gpus)
	return err
}

// returnDevices makes sure that nothing of a slot that has ended is left on its
// GPUs. One that is not clean gets a fault: nobody else is to find what is left.
func (s *slot) returnDevices() {
	if s.lease == nil {
		return
	}
	for device, left := range s.lease.Returned(returnTime) {
		s.agent.foundFault(device, left+", at "+time.Now().UTC().Format(time.RFC3339))
	}
}

// access is what the slot's worker needs to reach its GPUs.
func (s *slot) access() (a accelerators.Access) {
	if s.lease != nil {
		a = s.lease.Access()
	}
	return a
}

// measure begins to measure what an execution uses of the slot's GPUs.
func (s *slot) measure() (stop func(*warpket.Usage)) {
	if s.lease == nil {
		return func(*warpket.Usage) {}
	}
	return s.lease.Measure()
}

// pretence stands for the worker of a slot with simulated devices, which is
// ready at once and runs nothing.
type pretence struct{ devices []string }

func (p pretence) Run(context.Context, worker.Call, io.Writer) warpket.Outcome {
	return warpket.FailedWith(warpket.SimulatedDevice, "its slot holds simulated devices ("+strings.Join(p.devices, ", ")+"): they are there to try out placement, and run no code", "")
}

func (pretence) Alive() bool                   { return true }
func (pretence) LoadFailure() *warpket.Failure { return nil }
func (pretence) Close() error                  { return nil }
