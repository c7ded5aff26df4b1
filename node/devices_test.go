package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/channel/wire"
)

// fakeGPUs are GPUs of which the test decides what is on them.
type fakeGPUs struct {
	left map[string]string // on each after a slot

	mu    sync.Mutex
	taken []string
}

func (g *fakeGPUs) Load() map[string]warpket.Load {
	return map[string]warpket.Load{"GPU-1": {MemoryFree: 7}}
}

func (g *fakeGPUs) Watch(_ context.Context, found func(device, fault string)) {
	found("GPU-2", "Xid 79")
}

func (g *fakeGPUs) Take(ids []string) (accelerators.Lease, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken = append(g.taken, ids...)
	return g, nil
}

func (g *fakeGPUs) Access() accelerators.Access {
	return accelerators.Access{Env: []string{"CUDA_VISIBLE_DEVICES=GPU-1"}}
}

func (g *fakeGPUs) Measure() func(*warpket.Usage) {
	return func(u *warpket.Usage) { u.GPUMemory, u.GPUJoules, u.GPUSeconds = 5, 6, 7 }
}
func (g *fakeGPUs) Returned(time.Duration) map[string]string { return maps.Clone(g.left) }

// agentOn is an agent on a machine with these devices.
func agentOn(t *testing.T, gpus *fakeGPUs, devices ...warpket.Device) *Agent {
	t.Helper()
	a := New(Config{Dir: t.TempDir(), GPUs: gpus, Inventory: warpket.Inventory{Devices: devices}, Log: slog.New(slog.DiscardHandler)})
	var err error
	if a.client, err = channel.NewClient(identity(t), a, a.config.Log); err != nil {
		t.Fatal(err)
	}
	return a
}

// identity is that of a node that nobody knows.
func identity(t *testing.T) channel.Identity {
	t.Helper()
	certificate, key, err := channel.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return channel.Identity{Certificate: certificate, Key: key, Authority: certificate}
}

// reported are the devices of which the agent tells.
func reported(t *testing.T, a *Agent) map[string]warpket.Device {
	t.Helper()
	var inventory warpket.Inventory
	if err := json.Unmarshal(a.Hello().GetInventory(), &inventory); err != nil {
		t.Fatal(err)
	}
	all := map[string]warpket.Device{}
	for _, d := range inventory.Devices {
		all[d.ID] = d
	}
	return all
}

var (
	gpu1      = warpket.Device{ID: "GPU-1", Kind: warpket.NVIDIA}
	gpu2      = warpket.Device{ID: "GPU-2", Kind: warpket.NVIDIA}
	simulator = warpket.Device{ID: "simulator", Kind: warpket.QuantumSimulator}
	declared  = warpket.Device{ID: "simulated-gpu-0", Kind: warpket.NVIDIA, Simulated: true}
)

func TestASlotWithSimulatedDevicesIsReadyAndRunsNothing(t *testing.T) {
	t.Parallel()
	gpus := &fakeGPUs{}
	a := agentOn(t, gpus, declared)
	in := &wire.Prepare{Slot: "s", Generation: 1, Devices: []string{declared.ID}, Reuse: string(warpket.ReuseNone)}
	if reply, err := a.prepare(t.Context(), in, func(string) {}); err != nil || reply.GetLoadFailure() != nil {
		t.Fatalf("prepared: %v, %v", reply, err)
	}
	for number := range int32(2) { // also when nothing may be used again
		id := attempt{"e", number}
		e, s, err := a.admit(id, &wire.Run{Execution: "e", Attempt: number, Slot: "s", Generation: 1})
		if err != nil {
			t.Fatal(err)
		}
		e.run(s, id, &wire.Run{}, nil, time.Now())
		if f := e.outcome.Failure; e.outcome.Status != warpket.Failed || f == nil || f.Code != warpket.SimulatedDevice || !strings.Contains(f.Message, declared.ID) {
			t.Errorf("ended %+v, %+v", e.outcome, f)
		}
		<-s.turn
		s.turn <- struct{}{}
	}
	if err := a.release("s", 1, false); err != nil || len(gpus.taken) != 0 {
		t.Errorf("released: %v; taken were %v", err, gpus.taken)
	}
}

func TestASlotGetsTheGPUsThatItWasLeased(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in    *wire.Prepare
		taken []string
		kind  warpket.Kind
		says  string
	}{
		"GPUs":              {&wire.Prepare{Devices: []string{"GPU-2", "GPU-1"}}, []string{"GPU-2", "GPU-1"}, "", ""},
		"a simulator":       {&wire.Prepare{Devices: []string{"simulator"}}, nil, "", ""},
		"none":              {&wire.Prepare{}, nil, "", ""},
		"one that is gone":  {&wire.Prepare{Devices: []string{"GPU-3"}}, nil, warpket.Unavailable, "no longer has GPU-3"},
		"one, for an image": {&wire.Prepare{Devices: []string{"GPU-1"}, Image: &wire.Image{}}, nil, warpket.Invalid, "come as an image"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gpus := &fakeGPUs{}
			s := agentOn(t, gpus, gpu1, gpu2, simulator).newSlot(t.Context(), "s", tt.in)
			err := s.takeDevices()
			if warpket.KindOf(err) != tt.kind || err != nil && !strings.Contains(err.Error(), tt.says) || !slices.Equal(gpus.taken, tt.taken) {
				t.Errorf("taken %v, %v", gpus.taken, err)
			}
			if got := s.access().Env; (len(tt.taken) > 0) != (len(got) > 0) {
				t.Errorf("its programs get %q", got)
			}
			var used warpket.Usage
			if s.measure()(&used); (len(tt.taken) > 0) != (used.GPUMemory == 5 && used.GPUJoules == 6 && used.GPUSeconds == 7) {
				t.Errorf("measured %+v", used)
			}
		})
	}
}

func TestAGPUThatASlotLeavesDirtyGetsAFault(t *testing.T) {
	t.Parallel()
	a := agentOn(t, &fakeGPUs{left: map[string]string{"GPU-1": "2048 MiB are left"}}, gpu1, gpu2)
	s := a.newSlot(t.Context(), "s", &wire.Prepare{Devices: []string{"GPU-1", "GPU-2"}})
	if err := s.takeDevices(); err != nil {
		t.Fatal(err)
	}
	s.worker = pretence{}
	s.clear()
	if got := reported(t, a); !strings.Contains(got["GPU-1"].Fault, "2048 MiB are left, at ") || got["GPU-2"].Fault != "" {
		t.Errorf("reported are %+v", got)
	}
}

func TestAnAgentReportsFaultsLoadAndSpeed(t *testing.T) {
	t.Parallel()
	a := agentOn(t, &fakeGPUs{}, gpu1, gpu2, simulator, warpket.Device{ID: "other", Kind: warpket.QuantumSimulator, Simulated: true})
	curve := []warpket.Speed{{Qubits: 8, GatesPerSecond: 9}}
	a.config.Speed = func(context.Context) ([]warpket.Speed, error) { return curve, nil }
	if a.Loads() != nil {
		t.Error("load is told before it was looked at")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // each looks once
	a.watchDevices(ctx)
	a.running.Wait()
	got := reported(t, a)
	if got["GPU-1"].Fault != "" || got["GPU-2"].Fault != "Xid 79" || !slices.Equal(got["simulator"].Speed, curve) || got["other"].Speed != nil {
		t.Errorf("reported are %+v", got)
	}
	var loads map[string]warpket.Load
	if err := json.Unmarshal(a.Loads(), &loads); err != nil || loads["GPU-1"].MemoryFree != 7 {
		t.Errorf("they do %s (%v)", a.Loads(), err)
	}
}

func TestWhatAGPUDidGoesWithTheOutcome(t *testing.T) {
	t.Parallel()
	e := &execution{log: newLogBuffer(), outcome: warpket.Outcome{Status: warpket.Succeeded, Usage: warpket.Usage{GPUMemory: 5, GPUJoules: 6.5, GPUSeconds: 0.25}}}
	for range 2 { // packed, and packed before
		o, err := e.pack(t.Context(), New(Config{}), nil, attempt{})
		if err != nil || o.GetGpuMemory() != 5 || o.GetGpuJoules() != 6.5 || o.GetGpuSeconds() != 0.25 {
			t.Errorf("packed %v (%v)", o, err)
		}
	}
}
