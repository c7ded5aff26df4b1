package workflows

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warpket/warpket"
)

func (c *cluster) limit(what warpket.Limit, n int64) {
	c.t.Helper()
	_, err := c.store.SetQuota(c.t.Context(), c.project, time.Now(), func(q *warpket.Quota) error { q.Limits[what] = n; return nil })
	c.must(err)
}

func TestNoServerLetsMoreExecutionsBeOpenThanItsProjectMay(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.limit(warpket.ExecutionLimit, 3)
	s := c.server()
	handler, _, gate := gated()
	c.node(s, handler)
	first := c.execution()
	var admitted, refused atomic.Int64
	var mu sync.Mutex
	var open []warpket.ID
	var wg sync.WaitGroup
	for range 12 {
		e := next(first)
		wg.Go(func() {
			switch err := s.Launch(t.Context(), e, false); warpket.KindOf(err) {
			case "":
				admitted.Add(1)
				mu.Lock()
				open = append(open, e.ID)
				mu.Unlock()
			case warpket.OverQuota:
				refused.Add(1)
				if _, err := s.Store.ExecutionByID(t.Context(), e.ID); warpket.KindOf(err) != warpket.NotFound {
					t.Error("it was refused, and recorded")
				}
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 3 || refused.Load() != 9 {
		t.Errorf("%d were admitted, %d refused", admitted.Load(), refused.Load())
	}
	other := c.server() // one that has not asked yet knows of them, too
	if err := other.Launch(t.Context(), next(first), false); warpket.KindOf(err) != warpket.OverQuota {
		t.Errorf("in another server: %v", err)
	}
	close(gate)
	for _, id := range open {
		s.final(id)
	}
	for { // whoever sees the end of one may ask for another, once the server has told
		err := s.Launch(t.Context(), next(first), false)
		if err == nil {
			break
		}
		if warpket.KindOf(err) != warpket.OverQuota || t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestNoMoreExecutionsWaitThanTheirProjectMay(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.limit(warpket.WaitingLimit, 1)
	s := c.server()
	handler, begun, gate := gated()
	c.node(s, handler)
	running := c.execution()
	c.must(s.Launch(t.Context(), running, false))
	<-begun
	waiting := next(running)
	c.must(s.Launch(t.Context(), waiting, false))
	if err := s.Launch(t.Context(), next(running), false); warpket.KindOf(err) != warpket.OverQuota {
		t.Errorf("one too many: %v", err)
	}
	close(gate)
	s.final(running.ID)
	s.final(waiting.ID)
}

func TestCountingUsageEndsHoweverMuchIsUsedMeanwhile(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.exec(`create function more() returns trigger language plpgsql as $$ begin
		if new.succeeded > 3 then raise 'it does not end'; end if;
		insert into usage_events (project_id, function_id, date, status) values (new.project_id, new.function_id, new.hour, 'succeeded');
		return null; end $$`)
	c.exec(`create trigger more after insert or update on usage_hours for each row execute function more()`)
	c.exec(`insert into usage_events (project_id, function_id, date, status) values ($1, $2, now(), 'succeeded')`, c.project, warpket.NewID(time.Now()))
	f := &Fleet{Activities: New(Config{Store: c.store, Now: time.Now, Log: slog.New(slog.DiscardHandler)})}
	c.must(f.countUsage(t.Context()))
}

func TestUsedUpSecondsAndStorageStopExecutions(t *testing.T) {
	t.Parallel()
	for _, what := range []warpket.Limit{warpket.CPULimit, warpket.GPULimit, warpket.StorageLimit} {
		c := newCluster(t)
		c.limit(what, 10)
		c.exec(`insert into usage_months (project_id, month, cpu_seconds, gpu_seconds) values ($1, $2, 10, 10)`, c.project, warpket.MonthOf(time.Now()))
		c.exec(`insert into project_storage (project_id, bytes) values ($1, 10) on conflict (project_id) do update set bytes = 10`, c.project)
		s := c.server()
		if err := s.Launch(t.Context(), c.execution(), false); warpket.KindOf(err) != warpket.OverQuota {
			t.Errorf("%s: %v", what, err)
		}
	}
}
