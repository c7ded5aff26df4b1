//go:build cgo

package accelerators

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

// machine is a machine of go-nvml's, with the calls that it leaves out.
type machine struct {
	*server.Server
	events chan nvml.EventData

	mu    sync.Mutex
	cards map[string]*card // by UUID, slices too
}

// card is what changes on a GPU.
type card struct {
	used        uint64
	processes   []nvml.ProcessInfo
	busy        uint32 // percent
	millijoules uint64
	uncorrected uint64
	lost        bool
}

// change changes what is on a GPU.
func (m *machine) change(id string, change func(*card)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m.cards[id])
}

func get[T any](m *machine, id string, read func(*card) T) (value T, code nvml.Return) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cards[id].lost {
		return value, nvml.ERROR_GPU_IS_LOST
	}
	return read(m.cards[id]), nvml.SUCCESS
}

func newMachine(s *server.Server) *machine {
	m := &machine{Server: s, events: make(chan nvml.EventData, 10), cards: map[string]*card{}}
	s.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		return &mock.EventSet{
			WaitFunc: func(milliseconds uint32) (nvml.EventData, nvml.Return) {
				select {
				case e := <-m.events:
					return e, nvml.SUCCESS
				case <-time.After(time.Duration(milliseconds) * time.Millisecond):
					return nvml.EventData{}, nvml.ERROR_TIMEOUT
				}
			},
			FreeFunc: func() nvml.Return { return nvml.SUCCESS },
		}, nvml.SUCCESS
	}
	for _, d := range s.Devices {
		m.add(d.(*server.Device))
	}
	return m
}

// add adds what a whole GPU tells.
func (m *machine) add(gpu *server.Device) {
	id, total := gpu.UUID, gpu.MemoryInfo.Total
	m.cards[id] = &card{}
	m.common(&gpu.Device, id, total)
	gpu.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
		return get(m, id, func(c *card) nvml.Utilization { return nvml.Utilization{Gpu: c.busy} })
	}
	gpu.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 40, nvml.SUCCESS }
	gpu.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 61_500, nvml.SUCCESS }
	gpu.GetEnforcedPowerLimitFunc = func() (uint32, nvml.Return) { return 400_000, nvml.SUCCESS }
	gpu.GetCurrentClocksThrottleReasonsFunc = func() (uint64, nvml.Return) {
		return nvml.ClocksThrottleReasonGpuIdle | nvml.ClocksThrottleReasonSwThermalSlowdown, nvml.SUCCESS
	}
	gpu.GetMPSComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.SUCCESS }
	gpu.GetTotalEccErrorsFunc = func(kind nvml.MemoryErrorType, _ nvml.EccCounterType) (uint64, nvml.Return) {
		return get(m, id, func(c *card) uint64 {
			if kind == nvml.MEMORY_ERROR_TYPE_UNCORRECTED {
				return c.uncorrected
			}
			return 3
		})
	}
	gpu.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, nvml.SUCCESS }
	gpu.GetTotalEnergyConsumptionFunc = func() (uint64, nvml.Return) {
		return get(m, id, func(c *card) uint64 { return c.millijoules })
	}
	gpu.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return nvml.EventTypeAll, nvml.SUCCESS }
	gpu.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS }
	gpu.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
}

// common adds what slices tell, too.
func (m *machine) common(d *mock.Device, id string, total uint64) {
	d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) {
		return get(m, id, func(c *card) nvml.Memory { return nvml.Memory{Total: total, Used: c.used, Free: total - c.used} })
	}
	d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
		return get(m, id, func(c *card) []nvml.ProcessInfo { return slices.Clone(c.processes) })
	}
}

// cut cuts a GPU into slices, as its operator would: by GPU instances of these
// profiles, each with a compute instance that has all of it.
func (m *machine) cut(t *testing.T, gpu *server.Device, profiles ...int) {
	t.Helper()
	_, _ = gpu.SetMigMode(nvml.DEVICE_MIG_ENABLE)
	handles := map[int]nvml.Device{}
	for i, profile := range profiles {
		info, code := gpu.GetGpuInstanceProfileInfo(profile)
		if code != nvml.SUCCESS {
			t.Fatalf("there is no profile %d: %v", profile, code)
		}
		instance, _ := gpu.CreateGpuInstance(&info)
		id := fmt.Sprintf("MIG-%s-%d", gpu.UUID, i)
		m.cards[id] = &card{}
		has, _ := instance.GetInfo()
		slice := &mock.Device{
			GetUUIDFunc:              func() (string, nvml.Return) { return id, nvml.SUCCESS },
			GetNameFunc:              func() (string, nvml.Return) { return gpu.Config.Name + " MIG", nvml.SUCCESS },
			GetGpuInstanceIdFunc:     func() (int, nvml.Return) { return int(has.Id), nvml.SUCCESS },
			GetComputeInstanceIdFunc: func() (int, nvml.Return) { return 0, nvml.SUCCESS },
			GetAttributesFunc: func() (nvml.DeviceAttributes, nvml.Return) {
				return nvml.DeviceAttributes{GpuInstanceSliceCount: info.SliceCount, ComputeInstanceSliceCount: info.SliceCount, MemorySizeMB: info.MemorySizeMB}, nvml.SUCCESS
			},
			GetUtilizationRatesFunc: func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, nvml.ERROR_NOT_SUPPORTED },
		}
		m.common(slice, id, info.MemorySizeMB<<20)
		handles[2*i] = slice // with gaps
	}
	gpu.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if h := handles[i]; h != nil {
			return h, nvml.SUCCESS
		}
		return nil, nvml.ERROR_NOT_FOUND
	}
}

// files makes the device files of a machine below a root.
func (m *machine) files(t *testing.T, root string) {
	t.Helper()
	write(t, root, "/dev/nvidiactl", "")
	write(t, root, "/dev/nvidia-uvm", "")
	for i, d := range m.Devices {
		write(t, root, fmt.Sprintf("/dev/nvidia%d", i), "")
		if d, _ := d.(*server.Device); d.MigMode == nvml.DEVICE_MIG_ENABLE {
			for instance := range 3 {
				for part, name := range []string{"access", "ci0/access"} {
					minor := 10*(instance+1) + part
					write(t, root, fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d", minor), "")
					write(t, root, fmt.Sprintf("/proc/driver/nvidia/capabilities/gpu%d/mig/gi%d/%s", i, instance, name), fmt.Sprintf("DeviceFileMinor: %d\nDeviceFileMode: 292\n", minor))
				}
			}
		}
	}
}

func write(t *testing.T, root, name, content string) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func probed(t *testing.T, m *machine, root string) *GPUs {
	t.Helper()
	m.files(t, root)
	g, notes, err := probe(m, root, slog.New(slog.DiscardHandler))
	if err != nil || len(notes) > 0 {
		t.Fatalf("probing: %v, %q", err, notes)
	}
	t.Cleanup(g.Close)
	return g
}

func a100s() *machine { return newMachine(dgxa100.New()) }

// h100s has its first GPU cut into slices.
func h100s(t *testing.T) *machine {
	t.Helper()
	m := newMachine(dgxh100.New())
	m.cut(t, m.Devices[0].(*server.Device), nvml.GPU_INSTANCE_PROFILE_3_SLICE, nvml.GPU_INSTANCE_PROFILE_1_SLICE, nvml.GPU_INSTANCE_PROFILE_2_SLICE)
	return m
}

// TestGPUsAreRead is what holds of the GPUs of every machine.
func TestGPUsAreRead(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]*machine{"A100": a100s(), "H100 with slices": h100s(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conforms(t, probed(t, m, t.TempDir()))
		})
	}
	t.Run("this machine", func(t *testing.T) {
		t.Parallel()
		conforms(t, present(t))
	})
}

// present gives the GPUs of this machine.
func present(t *testing.T) *GPUs {
	t.Helper()
	g, notes := findGPUs(slog.New(slog.DiscardHandler))
	if len(g.Devices()) == 0 {
		if os.Getenv("WARPKET_TEST_GPU") != "" {
			t.Fatalf("this machine is to have a GPU: %q", notes)
		}
		t.Skipf("skipped, for this machine has no GPU: %q", notes)
	}
	t.Cleanup(g.Close)
	return g
}

var (
	versionForm = regexp.MustCompile(`^\d+\.\d+`)
	profileForm = regexp.MustCompile(`^(\dc\.)?[1-7]g\.\d+gb`)
)

func conforms(t *testing.T, g *GPUs) {
	devices, loads := g.Devices(), g.Load()
	seen := map[string]warpket.Device{}
	for _, d := range devices {
		if _, twice := seen[d.ID]; twice || d.ID == "" {
			t.Errorf("two GPUs have the ID %q", d.ID)
		}
		seen[d.ID] = d
		if d.Kind != warpket.NVIDIA || d.Name == "" || d.Memory < 1<<30 || d.Simulated || !versionForm.MatchString(d.ComputeCapability) || !versionForm.MatchString(d.DriverVersion) || !versionForm.MatchString(d.CUDAVersion) {
			t.Errorf("read %+v", d)
		}
		parent, cut := seen[d.ParentID]
		if (d.MIGProfile != "") != (d.ParentID != "") || d.ParentID != "" && (!cut || !parent.MIGEnabled || d.MIGEnabled || d.Memory > parent.Memory || d.Name != parent.Name || !profileForm.MatchString(d.MIGProfile)) {
			t.Errorf("the slice %+v is of %+v", d, parent)
		}
		if d.Leasable() == d.MIGEnabled && d.Fault == "" {
			t.Errorf("of a GPU that is cut its slices are leased, and not it: %+v", d)
		}
		load, told := loads[d.ID]
		if !told || load.MemoryUsed < 0 || load.MemoryFree <= 0 || load.MemoryUsed+load.MemoryFree > d.Memory+1<<30 || load.Utilisation < 0 || load.Utilisation > 100 || load.Temperature < 0 || load.Temperature > 150 {
			t.Errorf("%s does %+v (told: %t)", d.ID, load, told)
		}
		lease, err := g.Take([]string{d.ID})
		if err != nil {
			t.Errorf("taking %s: %v", d.ID, err)
			continue
		}
		if env := lease.Access().Env; !slices.Contains(env, "CUDA_VISIBLE_DEVICES="+d.ID) {
			t.Errorf("its programs see %q", env)
		}
		var used warpket.Usage
		lease.Measure()(&used)
		if used.GPUMemory < 0 || used.GPUJoules < 0 || used.GPUSeconds < 0 || used.GPUSeconds > 10 {
			t.Errorf("nothing has used %+v", used)
		}
	}
	if _, err := g.Take([]string{"GPU-none"}); warpket.KindOf(err) != warpket.Unavailable {
		t.Errorf("a GPU that there is not was taken: %v", err)
	}
}

func TestWhatAGPUIsAndDoes(t *testing.T) {
	t.Parallel()
	m := a100s()
	id := m.Devices[2].(*server.Device).UUID
	m.change(id, func(c *card) {
		c.used, c.busy, c.processes = 5<<30, 87, []nvml.ProcessInfo{{Pid: 1, UsedGpuMemory: 5 << 30}}
	})
	g := probed(t, m, t.TempDir())
	want := warpket.Device{
		ID: id, Kind: warpket.NVIDIA, Name: "Mock NVIDIA A100-SXM4-40GB", Memory: 40 << 30, ComputeCapability: "8.0",
		DriverVersion: g.Devices()[2].DriverVersion, CUDAVersion: "12.4",
	}
	if diff := cmp.Diff(want, g.Devices()[2]); diff != "" {
		t.Error(diff)
	}
	does := warpket.Load{
		MemoryUsed: 5 << 30, MemoryFree: 35 << 30, Utilisation: 87, Temperature: 40, Power: 61.5, PowerLimit: 400, Throttled: []string{"heat"}, Processes: 1, ECCCorrected: 3,
	}
	if diff := cmp.Diff(does, g.Load()[id]); diff != "" {
		t.Error(diff)
	}
}

func TestSlicesHaveTheNamesThatNVIDIAGivesThem(t *testing.T) {
	t.Parallel()
	g := probed(t, h100s(t), t.TempDir())
	var profiles []string
	for _, d := range g.Devices() {
		if d.ParentID != "" {
			profiles = append(profiles, d.MIGProfile)
		}
	}
	if diff := cmp.Diff([]string{"3g.40gb", "1g.10gb", "2g.20gb"}, profiles); diff != "" {
		t.Error(diff)
	}
	half := nvml.DeviceAttributes{GpuInstanceSliceCount: 2, ComputeInstanceSliceCount: 1, MemorySizeMB: 9856}
	if name := profile(half, 40<<30); name != "1c.2g.10gb" {
		t.Errorf("a part of a slice is %s", name)
	}
}

func TestProbeSaysInWordsWhyThereIsNoGPU(t *testing.T) {
	t.Parallel()
	missing := &mock.Interface{InitFunc: func() nvml.Return { return nvml.ERROR_LIBRARY_NOT_FOUND }}
	_, _, err := probe(missing, "/", slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "driver's library") {
		t.Errorf("got %v", err)
	}
	var none *GPUs
	none.Watch(t.Context(), nil)
	if _, err := none.Take([]string{"GPU-1"}); err == nil || len(none.Devices())+len(none.Load()) > 0 {
		t.Error("a machine without GPUs has some")
	}
	none.Close()
}

func TestAGPUThatDoesNotAnswerHidesNoOther(t *testing.T) {
	t.Parallel()
	m := a100s()
	lost := m.Devices[3].(*server.Device).UUID
	m.change(lost, func(c *card) { c.lost = true })
	root := t.TempDir()
	m.files(t, root)
	g, notes, err := probe(m, root, slog.New(slog.DiscardHandler))
	if err != nil || len(g.Devices()) != 7 || len(notes) != 1 || !strings.Contains(notes[0], "GPU 3 cannot be used") {
		t.Errorf("found %d with the notes %q (%v)", len(g.Devices()), notes, err)
	}
}

func TestADriverWithoutAFunctionIsNotAskedForIt(t *testing.T) {
	t.Parallel()
	m := a100s()
	m.LookupSymbolFunc = func(string) error { return fmt.Errorf("no such symbol") }
	for _, d := range m.Devices {
		gpu := d.(*server.Device)
		gpu.GetMigModeFunc, gpu.GetMPSComputeRunningProcessesFunc, gpu.GetTotalEnergyConsumptionFunc, gpu.GetRemappedRowsFunc = nil, nil, nil, nil // a call would panic
	}
	conforms(t, probed(t, m, t.TempDir()))
}

func TestMemoryErrorsFromBeforeAreAFault(t *testing.T) {
	t.Parallel()
	m := h100s(t)
	cut := m.Devices[0].(*server.Device).UUID
	m.change(cut, func(c *card) { c.uncorrected = 2 })
	for _, d := range probed(t, m, t.TempDir()).Devices() {
		if faulty := d.ID == cut || d.ParentID == cut; faulty != (d.Fault == "uncorrected memory errors since the driver was loaded: 2") || faulty && d.Leasable() {
			t.Errorf("%+v", d)
		}
	}
}

func TestFaultsAreToldOfTheRightDevice(t *testing.T) {
	t.Parallel()
	m := h100s(t)
	cut, plain := m.Devices[0].(*server.Device), m.Devices[1].(*server.Device)
	slice := func(i int) string { return fmt.Sprintf("MIG-%s-%d", cut.UUID, i) }
	g := probed(t, m, t.TempDir())
	type fault struct{ device, text string }
	told := make(chan fault, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { g.Watch(ctx, func(device, text string) { told <- fault{device, text} }) })
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	xid := func(gpu nvml.Device, number uint64, instance uint32) nvml.EventData {
		return nvml.EventData{Device: gpu, EventType: nvml.EventTypeXidCriticalError, EventData: number, GpuInstanceId: instance}
	}
	for _, tt := range []struct {
		event nvml.EventData
		says  string
		want  []string
	}{
		{xid(plain, 79, whole), "Xid 79 (fallen off the bus) at ", []string{plain.UUID}},
		{xid(cut, 119, whole), "Xid 119", []string{cut.UUID, slice(0), slice(1), slice(2)}},
		{xid(cut, 94, 1), "contained memory error", []string{cut.UUID, slice(1)}},
		{nvml.EventData{Device: plain, EventType: nvml.EventTypeDoubleBitEccError, GpuInstanceId: whole}, "double bit memory error at ", []string{plain.UUID}},
	} {
		m.events <- xid(plain, 31, whole) // of a program, which must not take a GPU from all others
		m.events <- tt.event
		var got []string
		for range tt.want {
			f := <-told
			got = append(got, f.device)
			if !strings.Contains(f.text, tt.says) {
				t.Errorf("said %q, without %q", f.text, tt.says)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Error(diff)
		}
	}
	m.events <- xid(nil, 62, whole) // all are suspect
	for range g.Devices() {
		<-told
	}
}

func TestAnExecutionIsMeasured(t *testing.T) {
	t.Parallel()
	m := h100s(t)
	gpu, cut := m.Devices[1].(*server.Device).UUID, m.Devices[0].(*server.Device).UUID
	m.change(gpu, func(c *card) { c.used, c.processes = 1<<30, []nvml.ProcessInfo{{Pid: 7, UsedGpuMemory: 1 << 30}} }) // the operator's
	slice := "MIG-" + cut + "-0"
	g := probed(t, m, t.TempDir())
	lease, err := g.Take([]string{gpu, slice})
	if err != nil {
		t.Fatal(err)
	}
	stop := lease.Measure()
	m.change(gpu, func(c *card) {
		c.millijoules, c.busy = c.millijoules+5000, 100
		c.processes = append(c.processes, nvml.ProcessInfo{Pid: 8, UsedGpuMemory: 2 << 30})
	})
	m.change(cut, func(c *card) { c.millijoules += 9000 }) // of all its slices together
	m.change(slice, func(c *card) { c.used = 3 << 30 })    // its processes are not told
	var used warpket.Usage
	stop(&used)
	if used.GPUMemory != 5<<30 || used.GPUJoules != 5 || used.GPUSeconds <= 0 {
		t.Errorf("measured %+v", used)
	}
}

func TestAShortExecutionIsMeasuredToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := a100s()
		id := m.Devices[0].(*server.Device).UUID
		lease, err := probed(t, m, t.TempDir()).Take([]string{id})
		if err != nil {
			t.Fatal(err)
		}
		stop := lease.Measure()
		time.Sleep(10 * time.Millisecond)
		m.change(id, func(c *card) { c.processes = []nvml.ProcessInfo{{Pid: 8, UsedGpuMemory: 2 << 30}} })
		time.Sleep(30 * time.Millisecond) // its process ends before its end is known here
		m.change(id, func(c *card) { c.processes = nil })
		var used warpket.Usage
		if stop(&used); used.GPUMemory != 2<<30 {
			t.Errorf("measured %+v", used)
		}
	})
}

func TestWhatASlotLeavesOnAGPUIsAFault(t *testing.T) {
	t.Parallel()
	m := a100s()
	first, second := m.Devices[0].(*server.Device).UUID, m.Devices[1].(*server.Device).UUID
	m.change(first, func(c *card) { c.used, c.processes = 1<<30, []nvml.ProcessInfo{{Pid: 7}} })
	g := probed(t, m, t.TempDir())
	lease, err := g.Take([]string{first, second})
	if err != nil {
		t.Fatal(err)
	}
	m.change(second, func(c *card) { c.used, c.processes = 2<<30, []nvml.ProcessInfo{{Pid: 8}} })
	if faults := lease.Returned(0); len(faults) != 1 || !strings.Contains(faults[second], "process 8") {
		t.Errorf("with a process left the faults are %v", faults)
	}
	m.change(second, func(c *card) { c.processes = nil })
	if faults := lease.Returned(0); len(faults) != 1 || !strings.Contains(faults[second], "2048 MiB") {
		t.Errorf("with memory left the faults are %v", faults)
	}
	done := make(chan map[string]string)
	go func() { done <- lease.Returned(time.Minute) }()
	m.change(second, func(c *card) { c.used = slack })
	if faults := <-done; faults != nil {
		t.Errorf("with all given back the faults are %v", faults)
	}
}

func TestAProgramReachesItsGPUsAndNoOthers(t *testing.T) {
	t.Parallel()
	m := h100s(t)
	root := t.TempDir()
	for _, name := range []string{"nvidia-modeset", "nvidia-uvm-tools", "nvidia-caps/nvidia-cap1"} {
		write(t, root, "/dev/"+name, "")
	}
	write(t, root, "/run/driver/lib/libcuda.so.550", "")
	if err := os.Symlink("libcuda.so.550", filepath.Join(root, "run/driver/lib/libcuda.so.1")); err != nil {
		t.Fatal(err)
	}
	write(t, root, "/etc/ld.so.cache", "glibc-ld.so.cache1.1\x00libcuda.so.1\x00/run/driver/lib/libcuda.so.1\x00libnvidia-ml.so.1\x00/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1\x00/opt/libssl.so.3\x00/opt/gone/libcuda.so.1\x00")
	g := probed(t, m, root)
	id := func(i int) string { return m.Devices[i].(*server.Device).UUID }
	write(t, root, "/proc/devices", "195 nvidia\n")
	write(t, root, "/proc/driver/nvidia/params", "ModifyDeviceFiles: 1\n")
	slice := "/proc/driver/nvidia/capabilities/gpu0/mig/gi1/"
	tests := map[string]struct {
		ids     []string
		devices []string
		said    []string
	}{
		"a GPU":    {[]string{id(1)}, []string{"/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia1", "/dev/nvidiactl"}, nil},
		"two GPUs": {[]string{id(2), id(1)}, []string{"/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia1", "/dev/nvidia2", "/dev/nvidiactl"}, nil},
		"a slice":  {[]string{"MIG-" + id(0) + "-1"}, []string{"/dev/nvidia-caps/nvidia-cap20", "/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia0", "/dev/nvidiactl"}, []string{slice + "access", slice + "ci0/access"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lease, err := g.Take(tt.ids)
			if err != nil {
				t.Fatal(err)
			}
			want := Access{
				Devices: tt.devices, Files: append([]string{"/run/driver/lib/libcuda.so.1", "/run/driver/lib/libcuda.so.550", "/proc/devices", "/proc/driver/nvidia/params"}, tt.said...),
				Env: []string{"CUDA_VISIBLE_DEVICES=" + strings.Join(tt.ids, ","), "CUDA_DEVICE_ORDER=PCI_BUS_ID", "LD_LIBRARY_PATH=/run/driver/lib"},
			}
			if diff := cmp.Diff(want, lease.Access()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatHasNoDeviceFileIsNotOffered(t *testing.T) {
	t.Parallel()
	all := func(m *machine) (ids []string) {
		for i, d := range m.Devices {
			ids = append(ids, d.(*server.Device).UUID)
			if i == 0 {
				ids = append(ids, "MIG-"+ids[0]+"-0", "MIG-"+ids[0]+"-1", "MIG-"+ids[0]+"-2")
			}
		}
		return ids
	}
	tests := map[string]struct {
		file string
		lost func(ids []string) []string
		made string
	}{
		"the memory's, which all need":  {"/dev/nvidia-uvm", func(ids []string) []string { return ids }, "nvidia-modprobe -u -c=0"},
		"the driver's":                  {"/dev/nvidiactl", func(ids []string) []string { return ids }, "nvidia-modprobe -c=0"},
		"a GPU's":                       {"/dev/nvidia2", func(ids []string) []string { return ids[5:6] }, "nvidia-modprobe -c=2"},
		"that of a GPU that is cut":     {"/dev/nvidia0", func(ids []string) []string { return ids[:4] }, "nvidia-modprobe -c=0"},
		"a slice's":                     {"/dev/nvidia-caps/nvidia-cap21", func(ids []string) []string { return ids[2:3] }, "nvidia-modprobe -f /proc/driver/nvidia/capabilities/gpu0/mig/gi1/ci0/access"},
		"of which the driver is silent": {"/proc/driver/nvidia/capabilities/gpu0/mig/gi2/access", func(ids []string) []string { return ids[3:4] }, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, root := h100s(t), t.TempDir()
			m.files(t, root)
			if err := os.Remove(filepath.Join(root, tt.file)); err != nil {
				t.Fatal(err)
			}
			g, notes, err := probe(m, root, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(g.Close)
			lost := tt.lost(all(m))
			for _, id := range all(m) {
				if offered := g.byID(id) != nil; offered == slices.Contains(lost, id) {
					t.Errorf("%s is offered: %t", id, offered)
				}
			}
			if len(notes) != 1 || !strings.Contains(notes[0], "no "+tt.file+",") || !strings.Contains(notes[0], strings.Join(lost, ", ")) || strings.Contains(notes[0], `"`+tt.made+`" makes it`) != (tt.made != "") {
				t.Errorf("the operator is told %q", notes)
			}
		})
	}
}
