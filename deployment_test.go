package warpket_test

import (
	"slices"
	"testing"

	"github.com/warpket/warpket"
)

var deploymentStatuses = []warpket.DeploymentStatus{
	warpket.DeploymentPending, warpket.DeploymentBuilding, warpket.DeploymentPlacing, warpket.DeploymentPreparing,
	warpket.DeploymentReady, warpket.DeploymentDegraded, warpket.DeploymentFailed, warpket.DeploymentDetached,
}

func TestDeploymentAdvances(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from, to warpket.DeploymentStatus
		want     warpket.Kind // "" means allowed
	}{
		"its runtime is built":                {warpket.DeploymentPending, warpket.DeploymentBuilding, ""},
		"its runtime is there already":        {warpket.DeploymentPending, warpket.DeploymentPlacing, ""},
		"it cannot be ready without a place":  {warpket.DeploymentPending, warpket.DeploymentReady, warpket.Conflict},
		"nor while its runtime is built":      {warpket.DeploymentBuilding, warpket.DeploymentReady, warpket.Conflict},
		"it gets ready":                       {warpket.DeploymentPreparing, warpket.DeploymentReady, ""},
		"a ready one loses a node":            {warpket.DeploymentReady, warpket.DeploymentDegraded, ""},
		"a degraded one is repaired":          {warpket.DeploymentDegraded, warpket.DeploymentReady, ""},
		"a ready one is placed anew":          {warpket.DeploymentReady, warpket.DeploymentPlacing, ""},
		"a failed one can still be detached":  {warpket.DeploymentFailed, warpket.DeploymentDetached, ""},
		"a failed one does not come back":     {warpket.DeploymentFailed, warpket.DeploymentPlacing, warpket.Conflict},
		"a detached one does not come back":   {warpket.DeploymentDetached, warpket.DeploymentReady, warpket.Conflict},
		"a detached one cannot fail any more": {warpket.DeploymentDetached, warpket.DeploymentFailed, warpket.Conflict},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := warpket.Deployment{Status: test.from, Message: "before"}
			wantKind(t, d.Advance(test.to, "after", noon), test.want)
			if moved := d.Status == test.to && d.Message == "after" && d.UpdatedDate.Equal(noon); moved != (test.want == "") {
				t.Errorf("it is now %+v", d)
			}
		})
	}
}

func TestEveryOpenDeploymentCanFailOrBeDetached(t *testing.T) {
	t.Parallel()
	for _, from := range deploymentStatuses {
		for _, to := range []warpket.DeploymentStatus{from, warpket.DeploymentFailed, warpket.DeploymentDetached} {
			if from == warpket.DeploymentDetached && to != from {
				continue
			}
			d := warpket.Deployment{Status: from}
			wantKind(t, d.Advance(to, "", noon), "")
		}
	}
}

func TestOnlyReadyAndFinalDeploymentsAreSettled(t *testing.T) {
	t.Parallel()
	settled := []warpket.DeploymentStatus{warpket.DeploymentReady, warpket.DeploymentFailed, warpket.DeploymentDetached}
	for _, s := range deploymentStatuses {
		if s.Settled() != slices.Contains(settled, s) || (warpket.Deployment{Status: s}).Settled() != s.Settled() {
			t.Errorf("%s is settled: %v", s, s.Settled())
		}
	}
}
