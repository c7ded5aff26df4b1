package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
)

// theNode is the node that every world has.
func (w *world) theNode(t *testing.T) warpket.Node {
	t.Helper()
	fleet, err := w.store.Fleet(t.Context())
	if err != nil || len(fleet) != 1 {
		t.Fatalf("the fleet is %+v (%v)", fleet, err)
	}
	return fleet[0]
}

// withGPUs connects the node anew, with two GPUs of which one does something.
func (w *world) withGPUs(t *testing.T) warpket.Node {
	t.Helper()
	n := w.theNode(t)
	n.Inventory.Devices = []warpket.Device{
		{ID: "GPU-1", Kind: warpket.NVIDIA, Name: "H100", Memory: 80 << 30}, {ID: "GPU-2", Kind: warpket.NVIDIA, Name: "A100", Memory: 40 << 30, Simulated: true, Fault: "Xid 79"},
	}
	if _, _, err := w.store.NodeIsUp(t.Context(), n.ID, n.Boot, n.Inventory, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.store.RenewNode(t.Context(), n.ID, n.Boot, nil, map[string]warpket.Load{"GPU-1": {MemoryUsed: 1, MemoryFree: 2, Utilisation: 3}}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDevicesAreListedWithWhatTheyDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.withGPUs(t)
	_, _, body := w.send(t, "GET", "/v1/nodes/"+string(n.ID), "")
	node := decode[api.Node](t, body)
	_, _, body = w.send(t, "GET", "/v1/devices", "")
	list := decode[struct{ Items []api.Device }](t, body)
	for where, devices := range map[string][]api.Device{"the node": node.Devices, "the list": list.Items} {
		if len(devices) != 2 {
			t.Fatalf("%s has %+v", where, devices)
		}
		if d := devices[0]; d.ID != "GPU-1" || !d.Free || d.Load == nil || d.Load.Utilisation != 3 || d.Load.MemoryFree != 2 || d.Holder != nil {
			t.Errorf("%s has %+v", where, d)
		}
		if d := devices[1]; d.Free || d.Fault != "Xid 79" || !d.Simulated || d.Load != nil {
			t.Errorf("%s has %+v", where, d)
		}
	}
	if !node.Simulated {
		t.Error("a node with a simulated device is not marked")
	}
	for query, want := range map[string]string{
		"free=true": "GPU-1", "free=false": "GPU-2", "name=has:H1": "GPU-1", "name=in:A100,B100": "GPU-2", "memory=gte:50000000000": "GPU-1", "memory=lt:50000000000": "GPU-2", "nodeId=" + string(n.ID) + "&limit=1": "GPU-1",
		"kind=simulator": "", "nodeId=nonesuch": "", "nodeId=" + string(warpket.NewID(time.Now())): "",
	} {
		status, _, body := w.send(t, "GET", "/v1/devices?"+query, "")
		got := ""
		for _, d := range decode[struct{ Items []api.Device }](t, body).Items {
			got += d.ID
		}
		if status != http.StatusOK || got != want {
			t.Errorf("%s: %d, %q, want %q", query, status, got, want)
		}
	}
	for _, query := range []string{"kind=tpu", "free=yes", "memory=much", "memory=has:4", "name=gt:a", "name=%00", "cursor=x", "limit=0", "other=1"} {
		if status, _, body := w.send(t, "GET", "/v1/devices?"+query, ""); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

func TestOnlyOperatorsSeeWhoHoldsADeviceAndMayClearItsFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.withGPUs(t)
	id := w.function(t, "holder")
	p, err := w.store.Project(t.Context(), warpket.DefaultProject)
	if err != nil {
		t.Fatal(err)
	}
	project := p.ID
	function, err := warpket.ParseID("function", id)
	if err != nil {
		t.Fatal(err)
	}
	v, err := w.store.Version(t.Context(), project, function, 1)
	if err != nil {
		t.Fatal(err)
	}
	slot := warpket.Slot{
		ID: warpket.NewID(time.Now()), NodeID: n.ID, ProjectID: project, FunctionID: function, SnapshotID: v.Snapshot.ID, RuntimeID: v.Snapshot.RuntimeID,
		Status: warpket.SlotPreparing, Resources: warpket.Resources{CPU: 1, Memory: 1}, Devices: []string{"GPU-1"}, CreatedDate: time.Now(),
	}
	if _, err := w.store.LeaseSlot(t.Context(), slot); err != nil {
		t.Fatal(err)
	}
	member := []string{"Authorization", "Bearer " + w.tokenOf(t, "member")}
	held := func(header ...string) api.Device {
		t.Helper()
		_, _, body := w.send(t, "GET", "/v1/devices", "", header...)
		return decode[struct{ Items []api.Device }](t, body).Items[0]
	}
	if d := held(); !d.Leased || d.Holder == nil || d.Holder.FunctionName != "holder" || d.Holder.SlotID != string(slot.ID) {
		t.Errorf("an operator sees %+v", d)
	}
	if d := held(member...); !d.Leased || d.Holder != nil {
		t.Errorf("a member sees %+v", d)
	}
	fault := "/v1/nodes/" + string(n.ID) + "/devices/GPU-2/fault"
	if status, _, _ := w.send(t, "DELETE", fault, "", member...); status != http.StatusForbidden {
		t.Errorf("a member clears a fault: %d", status)
	}
	for range 2 { // a second time it does nothing
		status, _, body := w.send(t, "DELETE", fault, "")
		if d := decode[api.Node](t, body).Devices[1]; status != http.StatusOK || d.Fault != "" || !d.Free {
			t.Errorf("cleared: %d %s", status, body)
		}
	}
	if status, _, _ := w.send(t, "DELETE", strings.Replace(fault, "GPU-2", "GPU-9", 1), ""); status != http.StatusNotFound {
		t.Errorf("of a device that there is not: %d", status)
	}
}

func TestANodeIsLabelledAsItWasSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/v1/nodes/" + string(w.theNode(t).ID)
	_, header, body := w.send(t, "GET", path, "")
	if n := decode[api.Node](t, body); n.Labels == nil || len(n.Labels) != 0 {
		t.Errorf("a new node has the labels %v", n.Labels)
	}
	seen := header.Get("ETag")
	status, header, body := w.send(t, "PATCH", path, `{"labels":{"zone":"a","example.org/rack":"7"}}`, "If-Match", seen)
	if n := decode[api.Node](t, body); status != http.StatusOK || n.Labels["zone"] != "a" || header.Get("ETag") == seen {
		t.Errorf("labelled: %d %s", status, body)
	}
	if status, _, body := w.send(t, "PATCH", path, `{"labels":{"zone":"b"}}`, "If-Match", seen); status != http.StatusPreconditionFailed {
		t.Errorf("as it is no longer: %d %s", status, body)
	}
	_, _, body = w.send(t, "PATCH", path, `{"labels":{"zone":null}}`)
	if n := decode[api.Node](t, body); len(n.Labels) != 1 || n.Labels["example.org/rack"] != "7" {
		t.Errorf("with one removed: %s", body)
	}
	for _, body := range []string{
		`{"labels":{"":"a"}}`, `{"labels":{"-a":"a"}}`, `{"labels":{"a":"b c"}}`, `{"labels":{"a\u0000":"b"}}`, `{"labels":{"a":7}}`, `{"labels":{"a":"` + strings.Repeat("x", 64) + `"}}`, `{"labels":[]}`, `{}`, `{"labels":{},"name":"x"}`,
	} {
		if status, _, answer := w.send(t, "PATCH", path, body); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	if status, _, _ := w.send(t, "PATCH", path, `{"labels":{}}`, "Authorization", "Bearer "+w.tokenOf(t, "admin")); status != http.StatusForbidden {
		t.Errorf("an admin labels a node: %d", status)
	}
	for query, want := range map[string]int{"label=example.org/rack%3D7": 1, "label=example.org/rack%3D8": 0, "label=example.org/rack%3D7&label=zone%3Da": 0, "live=true": 1, "live=false": 0, "cordoned=true": 0, "cordoned=false": 1, "label=a%3D1&label=a%3D2": 0} {
		status, _, body := w.send(t, "GET", "/v1/nodes?"+query, "")
		if got := decode[struct{ Items []api.Node }](t, body).Items; status != http.StatusOK || len(got) != want {
			t.Errorf("%s: %d, %d nodes", query, status, len(got))
		}
	}
	for _, query := range []string{"label=zone", "live=1", "cordoned=no", "label=%00%3D"} {
		if status, _, body := w.send(t, "GET", "/v1/nodes?"+query, ""); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

func TestANodeIsDrainedAndFenced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/v1/nodes/" + string(w.theNode(t).ID)
	status := func(method, path string, want int) string { // what it is after a call
		t.Helper()
		status, _, body := w.send(t, method, path, "", "Prefer", "wait=5")
		if status != want {
			t.Fatalf("%s %s: %d %s", method, path, status, body)
		}
		if want >= 400 {
			return ""
		}
		return decode[api.Node](t, body).Status
	}
	for _, step := range []struct {
		method, path, now string
		want              int
	}{
		{"POST", path + "/cordon", "cordoned", 200},
		{"DELETE", path + "/cordon", "up", 200},
		{"POST", path + "/drain", "drained", 200},
		{"GET", path, "drained", 200},
		{"POST", path + "/cordon", "drained", 200},
		{"DELETE", path + "/cordon", "up", 200},
		{"POST", path + "/fence", "", 409},
		{"POST", "/v1/nodes/" + string(warpket.NewID(time.Now())) + "/drain", "", 404},
		{"POST", "/v1/nodes/x/fence", "", 404},
	} {
		if got := status(step.method, step.path, step.want); got != step.now {
			t.Errorf("after %s %s it is %s, want %s", step.method, step.path, got, step.now)
		}
	}
	for _, call := range []string{"/drain", "/fence"} {
		if status, _, _ := w.send(t, "POST", path+call, "", "Authorization", "Bearer "+w.tokenOf(t, "admin")); status != http.StatusForbidden {
			t.Errorf("an admin may %s: %d", call, status)
		}
	}
}
