package workflows

import (
	"context"
	"sync"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// standingLife is how old what a server knows of other servers' executions may
// be. In that time each of several servers may admit what it saw to be free, so
// a project may come to have its limit and as much again for each further server.
const standingLife = time.Second

// quotas keeps how each project stands to its quota, so that a warm call reads
// nothing. Of the executions that go through this server it knows at once.
type quotas struct {
	mu       sync.Mutex
	projects map[warpket.ID]*standing
}

// maxStandings is of how many projects that is kept.
const maxStandings = 10_000

// standing is how one project stands.
type standing struct {
	mu sync.Mutex
	postgres.Standing
	read time.Time
	new  map[warpket.ID]bool // those of Open whose record may not be there yet
}

func (q *quotas) of(project warpket.ID) *standing {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.projects[project]
	if s == nil {
		if len(q.projects) >= maxStandings {
			clear(q.projects) // they are read anew
		}
		s = &standing{new: map[warpket.ID]bool{}}
		q.projects[project] = s
	}
	return s
}

// admit refuses an execution that its project's quota has no room for. One that
// is admitted counts until it is dropped or has ended.
func (a *Activities) admit(ctx context.Context, e warpket.Execution) error {
	s := a.quotas.of(e.ProjectID)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := a.Now()
	// Whoever has something to say of an execution waits while this reads, so what
	// is read and what is said are in order.
	if now.Sub(s.read) >= standingLife {
		fresh, err := a.Store.Standing(ctx, e.ProjectID, now)
		if err != nil {
			return err
		}
		for id := range s.new {
			if _, recorded := fresh.Open[id]; !recorded {
				fresh.Open[id] = s.Open[id]
			}
		}
		s.Standing, s.read = fresh, now
	}
	for _, l := range []warpket.Limit{warpket.CPULimit, warpket.GPULimit, warpket.StorageLimit} {
		if err := s.Quota.Admit(l, s.Used[l], 1, now); err != nil {
			return err
		}
	}
	if _, again := s.Open[e.ID]; again {
		return nil
	}
	if err := s.Quota.Admit(warpket.ExecutionLimit, int64(len(s.Open)), 1, now); err != nil {
		return err
	}
	if s.counts() {
		s.Open[e.ID], s.new[e.ID] = false, true
	}
	return nil
}

// counts reports whether anybody asks how many executions are open.
func (s *standing) counts() bool {
	_, open := s.Quota.Limits[warpket.ExecutionLimit]
	_, waiting := s.Quota.Limits[warpket.WaitingLimit]
	return open || waiting
}

// mayWait refuses an execution that was admitted and has to wait.
func (a *Activities) mayWait(e warpket.Execution) error {
	return a.counted(e, func(s *standing) error {
		waiting := int64(0)
		for _, waits := range s.Open {
			if waits {
				waiting++
			}
		}
		if err := s.Quota.Admit(warpket.WaitingLimit, waiting, 1, a.Now()); err != nil {
			return err
		}
		s.Open[e.ID] = true
		return nil
	})
}

// placed says that an execution waits no longer.
func (a *Activities) placed(e warpket.Execution) {
	_ = a.counted(e, func(s *standing) error { s.Open[e.ID] = false; return nil })
}

// recorded says that the record of an execution is there.
func (a *Activities) recorded(e warpket.Execution) {
	_ = a.counted(e, func(s *standing) error { delete(s.new, e.ID); return nil })
}

// dropped says that an execution is over, or has come to nothing.
func (a *Activities) dropped(e warpket.Execution) {
	_ = a.counted(e, func(s *standing) error {
		delete(s.new, e.ID)
		delete(s.Open, e.ID)
		return nil
	})
}

// counted does something with an execution that counts.
func (a *Activities) counted(e warpket.Execution, do func(*standing) error) error {
	a.quotas.mu.Lock()
	s := a.quotas.projects[e.ProjectID]
	a.quotas.mu.Unlock()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, counts := s.Open[e.ID]; !counts {
		return nil
	}
	return do(s)
}
