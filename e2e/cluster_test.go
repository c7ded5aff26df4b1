package e2e

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// another starts a second server on the records of a product, for nodes to
// connect to on this machine's address host. It gives where they do.
func (p *product) another(t *testing.T, host string) (c *client, channel string) {
	t.Helper()
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.find(t, "warpket server")))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(p.dir, "log", "another.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t), "server", "--watch-stdin", "--listen", "127.0.0.1:0", "--channel-listen", host+":0")
	cmd.Env, cmd.Stderr = strings.Split(strings.Trim(string(env), "\x00"), "\x00"), log
	in, err := cmd.StdinPipe() // it ends when this does
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
		_ = log.Close()
	})
	var said struct{ Ready struct{ API, Channel string } }
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || json.Unmarshal([]byte(line), &said) != nil || said.Ready.API == "" {
		t.Fatalf("it says %q, %v, see %s", line, err, log.Name())
	}
	return &client{"http://" + said.Ready.API, p.dev.Token}, said.Ready.Channel
}

// networks makes network namespaces, from each of which this machine is reached
// at host and nothing else is. It gives the commands that run something in them.
// Without the rights to make any there is one network, which is this machine's.
func networks(t *testing.T, n int) (host string, enter [][]string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("as no root, all nodes are in the network of this machine")
		return "127.0.0.1", make([][]string, n)
	}
	ip := func(args ...string) error {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	net := os.Getpid() % 250
	host = fmt.Sprintf("10.231.%d.1", net)
	for i := range n {
		name := fmt.Sprintf("warpket-%d-%d", net, i)
		outside, inside := fmt.Sprintf("wk%do%d", net, i), fmt.Sprintf("wk%di%d", net, i)
		if err := ip("netns", "add", name); err != nil {
			t.Logf("all nodes are in the network of this machine: %v", err)
			return "127.0.0.1", make([][]string, n)
		}
		t.Cleanup(func() {
			if err := ip("netns", "del", name); err != nil { // and the pair with it
				t.Error(err)
			}
		})
		here := fmt.Sprintf("10.231.%d.%d", net, 4*i+1)
		for _, args := range [][]string{
			{"link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name},
			{"addr", "add", here + "/30", "dev", outside},
			{"link", "set", outside, "up"},
			{"-n", name, "addr", "add", fmt.Sprintf("10.231.%d.%d/30", net, 4*i+2), "dev", inside},
			{"-n", name, "link", "set", inside, "up"},
			{"-n", name, "link", "set", "lo", "up"},
			{"-n", name, "route", "replace", host + "/32", "via", here},
		} {
			if err := ip(args...); err != nil {
				t.Fatal(err)
			}
		}
		enter = append(enter, []string{"nsenter", "--net=/run/netns/" + name})
	}
	return host, enter
}

// Each server is asked for the last device at the same moment. Nodes only dial:
// the server that they cannot reach has its calls passed on by the other.
func TestOfTwoServersThatWantTheLastDeviceOneGetsIt(t *testing.T) {
	p := start(t, t.TempDir())
	t.Cleanup(func() { p.stop(t) })
	host, enter := networks(t, 2)
	far, channel := p.another(t, host)
	near := p.client(t)
	for i, name := range []string{"alpha", "beta"} {
		p.enrol(t, &agent{name: name, server: channel, network: enter[i]}, "devices:\n  - "+a100+"}")
	}
	id := near.python(t, unique("last"), "def handler(event, context):\n    return 1\n", object{"resources": object{"gpus": 1, "cpu": 100, "memory": 64 << 20}})
	first := near.place(t, id, 1, object{"gpus": 1})
	if first.Status != "ready" || first.Ready != 1 {
		t.Fatalf("through the other server: %+v", first)
	}
	for round := range 3 {
		var both [2]placed
		var sides sync.WaitGroup
		for i, c := range []*client{near, far} {
			sides.Go(func() {
				a, err := c.try(t.Context(), "POST", "/v1/functions/"+id+"/versions/2/deployments", object{"resources": object{"gpus": 1}})
				if err != nil || json.Unmarshal(a.body, &both[i]) != nil || both[i].ID == "" {
					t.Errorf("server %d answers %d %s, %v", i, a.status, a.body, err)
				}
			})
		}
		if sides.Wait(); t.Failed() {
			return
		}
		until(t, time.Minute, "one has it and one waits", func() bool {
			both[0], both[1] = far.placement(t, both[0].ID), near.placement(t, both[1].ID)
			slices.SortFunc(both[:], func(a, b placed) int { return cmp.Compare(b.Ready, a.Ready) })
			return both[0].Status == "ready" && both[1].Queue != nil
		})
		if both[1].Ready != 0 || both[1].Queue.Position != 1 || !strings.Contains(both[1].Queue.Reason, "GPU") || both[0].where()[0] == first.where()[0] {
			t.Errorf("round %d: beside %v there are %+v", round, first.where(), both)
		}
		near.ok(t, "POST", "/v1/deployments/"+both[0].ID+"/detach", nil, "Prefer", "wait=60")
		until(t, time.Minute, "the other has it", func() bool { return near.placement(t, both[1].ID).Status == "ready" })
		near.ok(t, "POST", "/v1/deployments/"+both[1].ID+"/detach", nil, "Prefer", "wait=60")
	}
}
