package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// agent is a further node of a product, with simulated devices.
type agent struct {
	name, dir, devices string
	server             string   // that it connects to; the product's own unless set
	network            []string // the command that puts it into a network of its own, if any
	cmd                *exec.Cmd
	ended              chan struct{}
}

// join makes a node with these devices and has it join.
func (p *product) join(t *testing.T, name, devices string) *agent {
	t.Helper()
	a := &agent{name: name}
	p.enrol(t, a, devices)
	return a
}

// enrol has a node join that has these devices.
func (p *product) enrol(t *testing.T, a *agent, devices string) {
	t.Helper()
	a.dir = filepath.Join(p.dir, "nodes", a.name)
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a.devices = filepath.Join(a.dir, "devices.yaml")
	if err := os.WriteFile(a.devices, []byte(devices), 0o600); err != nil {
		t.Fatal(err)
	}
	token := as[struct{ Token string }](t, p.client(t).ok(t, "POST", "/v1/nodes/tokens", nil)).Token
	p.run(t, a, "WARPKET_JOIN_TOKEN="+token)
}

// run starts a node, which has joined or has a token, and waits until it is up.
func (p *product) run(t *testing.T, a *agent, env ...string) {
	t.Helper()
	var kept struct{ Channel string }
	b, err := os.ReadFile(filepath.Join(p.dir, "dev-kept.json"))
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(a.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	command := append(slices.Clone(a.network), program(t), "node", "--server", cmp.Or(a.server, kept.Channel), "--name", a.name, "--dir", a.dir, "--simulate-devices", a.devices)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a.cmd, a.ended = cmd, make(chan struct{})
	ended := a.ended
	go func() {
		defer close(ended)
		_ = cmd.Wait()
		_ = log.Close()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	until(t, time.Minute, a.name+" is up", func() bool {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("%s has ended: %s", a.name, text)
		default:
		}
		n, ok := p.nodes(t)[a.name]
		return ok && n.Status == "up"
	})
}

type nodeState struct {
	ID, Name, Status string
	Simulated        bool
	Slots            int
	CPULeased        int
	Devices          []deviceState
	Labels           map[string]string
}

type deviceState struct {
	ID, Node, MigProfile, ParentID, Fault string
	Leased, Free, Simulated, MigEnabled   bool
	Holder                                *struct{ FunctionName, DeploymentID string }
}

func (p *product) nodes(t *testing.T) map[string]nodeState {
	t.Helper()
	all := map[string]nodeState{}
	for _, n := range as[struct{ Items []nodeState }](t, p.client(t).ok(t, "GET", "/v1/nodes", nil)).Items {
		all[n.Name] = n
	}
	return all
}

type placed struct {
	ID, Status, Message string
	Ready               int
	Queue               *struct {
		Position int
		Reason   string
	}
	Placement struct {
		Slots []struct {
			Node, Status, Reason string
			Devices              []string
			Simulated            bool
		}
	}
}

// where are the nodes on which a deployment has slots that are not lost, in order.
func (d placed) where() (names []string) {
	for _, s := range d.Placement.Slots {
		if s.Status != "lost" {
			names = append(names, s.Node)
		}
	}
	slices.Sort(names)
	return names
}

func (c *client) place(t *testing.T, function string, slots int, resources object) placed {
	t.Helper()
	return as[placed](t, c.ok(t, "POST", "/v1/functions/"+function+"/versions/2/deployments", object{"slots": slots, "resources": resources}, "Prefer", "wait=60"))
}

func (c *client) placement(t *testing.T, id string) placed {
	t.Helper()
	return as[placed](t, c.ok(t, "GET", "/v1/deployments/"+id, nil))
}

const a100 = `{name: A100, memory: 40 GiB, computeCapability: "8.0", cudaVersion: "13.0", driverVersion: "580.65.06"`

// TestAFleetWithSimulatedDevices has three nodes with GPUs that are only
// declared, beside the product's own. On a machine as root or not, each is a
// process of its own with its own identity.
func TestAFleetWithSimulatedDevices(t *testing.T) {
	whole := t // nodes outlive the parts
	p := start(t, t.TempDir())
	t.Cleanup(func() { p.stop(t) })
	c := p.client(t)
	p.join(t, "alpha", "devices:\n  - "+a100+", count: 2}")
	beta := p.join(t, "beta", "devices:\n  - "+a100+", count: 2}")
	p.join(t, "gamma", "devices:\n  - "+a100+", mig: [1g.5gb, 2g.10gb]}\n  - "+a100+`, fault: "Xid 79 at noon"}`+"\n  - {kind: simulator, name: big, memory: 2 TiB, cores: 128}")
	id := c.python(t, unique("fleet"), "def handler(event, context):\n    return 1\n", object{"resources": object{"gpus": 1}})
	small := object{"gpus": 1, "cpu": 100, "memory": 64 << 20}

	t.Run("the devices are marked", func(t *testing.T) {
		nodes := p.nodes(t)
		if nodes["local"].Simulated || !nodes["alpha"].Simulated || len(nodes["alpha"].Devices) != 3 {
			t.Errorf("the nodes are %+v", nodes)
		}
		list := as[struct{ Items []deviceState }](t, c.ok(t, "GET", "/v1/devices?kind=gpu&free=true", nil)).Items
		free := map[string]int{}
		for _, d := range list {
			if free[d.Node]++; !d.Simulated || d.MigEnabled || d.Fault != "" {
				t.Errorf("free is %+v", d)
			}
		}
		if free["alpha"] != 2 || free["beta"] != 2 || free["gamma"] != 2 { // the slices
			t.Errorf("free are %v", free)
		}
	})

	t.Run("slots spread, say that their devices are simulated, and run nothing", func(t *testing.T) {
		both := object{"gpus": 2, "spread": "require", "cpu": 100, "memory": 64 << 20}
		d := c.place(t, id, 2, both)
		if d.Status != "ready" || !slices.Equal(d.where(), []string{"alpha", "beta"}) {
			t.Fatalf("deployed %+v", d)
		}
		for _, s := range d.Placement.Slots {
			if !s.Simulated || len(s.Devices) != 2 || !strings.Contains(s.Reason, "simulated") {
				t.Errorf("placed %+v", s)
			}
		}
		e := as[struct {
			Status    string
			Error     *struct{ Code, Message string }
			Placement struct{ Simulated bool }
		}](t, c.ok(t, "POST", "/v1/executions", object{"functionId": id, "resources": both}, "Prefer", "wait=30"))
		if e.Status != "failed" || e.Error == nil || e.Error.Code != "simulated_device" || !e.Placement.Simulated {
			t.Errorf("executed %+v %+v", e, e.Error)
		}
		held := as[struct{ Items []deviceState }](t, c.ok(t, "GET", "/v1/devices?kind=gpu&free=false&nodeId="+p.nodes(t)["alpha"].ID, nil)).Items
		if len(held) != 2 || held[0].Holder == nil || held[0].Holder.DeploymentID != d.ID {
			t.Errorf("held are %+v", held)
		}
		c.ok(t, "POST", "/v1/deployments/"+d.ID+"/detach", nil, "Prefer", "wait=60")
	})

	t.Run("a slice is had by its profile", func(t *testing.T) {
		d := c.place(t, id, 1, object{"gpus": 1, "migProfile": "2g.10gb", "cpu": 100, "memory": 64 << 20})
		if d.Status != "ready" || !slices.Equal(d.where(), []string{"gamma"}) || !slices.Equal(d.Placement.Slots[0].Devices, []string{"simulated-gpu-0-mig-1"}) {
			t.Errorf("deployed %+v", d)
		}
		c.ok(t, "POST", "/v1/deployments/"+d.ID+"/detach", nil, "Prefer", "wait=60")
	})

	t.Run("a declared simulator holds what no machine does, or is had by its ID, and runs nothing", func(t *testing.T) {
		plan := c.python(t, unique("plan"), "def handler(event, context):\n    return 1\n", object{})
		d := c.place(t, plan, 1, object{"qubits": 36, "cpu": 64_000})
		if d.Status != "ready" || !slices.Equal(d.where(), []string{"gamma"}) || !d.Placement.Slots[0].Simulated || !slices.Equal(d.Placement.Slots[0].Devices, []string{"simulated-simulator-0"}) {
			t.Fatalf("deployed %+v", d)
		}
		if n := p.nodes(t)["gamma"]; n.CPULeased != 0 {
			t.Errorf("the simulator takes cores of its node: %+v", n)
		}
		c.ok(t, "POST", "/v1/deployments/"+d.ID+"/detach", nil, "Prefer", "wait=60")
		e := as[struct {
			Error     *struct{ Code string }
			Placement struct {
				Devices   []string
				Simulated bool
			}
		}](t, c.ok(t, "POST", "/v1/executions", object{"functionId": plan, "device": "simulated-simulator-0"}, "Prefer", "wait=30"))
		if e.Error == nil || e.Error.Code != "simulated_device" || !e.Placement.Simulated || !slices.Equal(e.Placement.Devices, []string{"simulated-simulator-0"}) {
			t.Errorf("executed %+v %+v", e, e.Error)
		}
	})

	t.Run("a fault that is cleared gives the device back", func(t *testing.T) {
		gamma := p.nodes(t)["gamma"].ID
		c.ok(t, "DELETE", "/v1/nodes/"+gamma+"/devices/simulated-gpu-1/fault", nil)
		list := as[struct{ Items []deviceState }](t, c.ok(t, "GET", "/v1/devices?free=true&nodeId="+gamma, nil)).Items
		if !slices.ContainsFunc(list, func(d deviceState) bool { return d.ID == "simulated-gpu-1" }) {
			t.Errorf("free are %+v", list)
		}
	})

	t.Run("what is drained moves, and the node is empty", func(t *testing.T) {
		d := c.place(t, id, 2, object{"gpus": 1, "spread": "require", "cpu": 100, "memory": 64 << 20, "gpuMemory": 30 << 30, "labels": object{}})
		from := d.where()[0]
		path := "/v1/nodes/" + p.nodes(t)[from].ID
		a := c.ok(t, "POST", path+"/drain", nil, "Prefer", "wait=60")
		if n := as[nodeState](t, a); n.Status != "drained" || n.Slots != 0 || n.CPULeased != 0 {
			t.Errorf("%d %+v", a.status, n)
		}
		until(t, 30*time.Second, "the slots are elsewhere", func() bool {
			d = c.placement(t, d.ID)
			return d.Status == "ready" && d.Ready == 2 && !slices.Contains(d.where(), from)
		})
		c.ok(t, "DELETE", path+"/cordon", nil)
		c.ok(t, "POST", "/v1/deployments/"+d.ID+"/detach", nil, "Prefer", "wait=60")
	})

	t.Run("a killed node's slots move, and its devices stay leased until it is fenced or answers", func(t *testing.T) {
		for _, end := range []string{"fenced", "back"} {
			for name := range p.nodes(t) { // only beta has room
				if name == "alpha" || name == "gamma" {
					c.ok(t, "POST", "/v1/nodes/"+p.nodes(t)[name].ID+"/cordon", nil)
				}
			}
			d := c.place(t, id, 1, small)
			if !slices.Equal(d.where(), []string{"beta"}) {
				t.Fatalf("deployed %+v", d)
			}
			c.ok(t, "DELETE", "/v1/nodes/"+p.nodes(t)["alpha"].ID+"/cordon", nil)
			kill(t, beta.cmd.Process.Pid)
			<-beta.ended
			until(t, time.Minute, "the slot is on alpha", func() bool {
				d = c.placement(t, d.ID)
				return d.Status == "ready" && slices.Equal(d.where(), []string{"alpha"})
			})
			leased := func() (n int) {
				for _, d := range p.nodes(t)["beta"].Devices {
					if d.Leased {
						n++
					}
				}
				return n
			}
			if n := p.nodes(t)["beta"]; n.Status != "lost" || leased() != 1 {
				t.Errorf("the killed node is %+v", n)
			}
			if a := c.send(t, "POST", "/v1/nodes/"+p.nodes(t)["alpha"].ID+"/fence", nil); a.status != 409 {
				t.Errorf("a node that answers was fenced: %d %s", a.status, a.body)
			}
			if end == "fenced" {
				a := c.ok(t, "POST", "/v1/nodes/"+p.nodes(t)["beta"].ID+"/fence", nil)
				if n := as[nodeState](t, a); n.Status != "fenced" || n.Slots != 0 || leased() != 0 {
					t.Errorf("fenced it is %+v", n)
				}
			}
			p.run(whole, beta)
			if n := leased(); n != 0 {
				t.Errorf("back, it has %d devices leased", n)
			}
			c.ok(t, "POST", "/v1/deployments/"+d.ID+"/detach", nil, "Prefer", "wait=60")
			c.ok(t, "DELETE", "/v1/nodes/"+p.nodes(t)["gamma"].ID+"/cordon", nil)
		}
	})

	t.Run("labels decide where slots go", func(t *testing.T) {
		c.ok(t, "PATCH", "/v1/nodes/"+p.nodes(t)["beta"].ID, object{"labels": object{"zone": "b"}})
		d := c.place(t, id, 2, object{"gpus": 1, "cpu": 100, "memory": 64 << 20, "labels": object{"zone": "b"}})
		if d.Status != "ready" || !slices.Equal(d.where(), []string{"beta", "beta"}) {
			t.Errorf("deployed %+v", d)
		}
		c.ok(t, "POST", "/v1/deployments/"+d.ID+"/detach", nil, "Prefer", "wait=60")
	})
}

func TestAFileOfDevicesThatCannotBeReadStopsTheNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "devices.yaml")
	if err := os.WriteFile(file, []byte("devices:\n  - {name: x, memory: much}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program(t), "node", "--server", "127.0.0.1:1", "--dir", dir, "--simulate-devices", file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "memory is a number of MiB") || !strings.Contains(string(out), fmt.Sprint(file)) {
		t.Errorf("%v: %s", err, out)
	}
}
