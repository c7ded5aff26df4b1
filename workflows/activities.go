package workflows

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"golang.org/x/sync/singleflight"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/metrics"
	"github.com/warpket/warpket/secrets"
	"github.com/warpket/warpket/storage/blob"
	"github.com/warpket/warpket/storage/postgres"
)

// Config is what Activities work with.
type Config struct {
	ServerID warpket.ID
	Store    *postgres.Store
	Blobs    *blob.Store
	Nodes    *channel.Server
	Hub      *live.Hub
	Catalog  Catalog
	Secrets  *secrets.Vault
	Client   *Client
	Now      func() time.Time
	IdleSlot time.Duration // after which a slot on demand is given back

	Random func(n int) int // from 0 to n-1, for aliases to choose by; math/rand/v2's unless set

	Callbacks http.RoundTripper // dials no host that strangers may not name
	Retention time.Duration     // of executions, at least; 0 keeps them all

	Metrics *metrics.Metrics
	Log     *slog.Logger
}

// Activities are what workflows do. Each may be run again at any time.
type Activities struct {
	Config

	providing singleflight.Group // slots on demand, by what waits for them, see SharedWait
	starts    chan struct{}      // one token for each workflow that is being started
	sent      sync.Map           // attempts that this server has asked a node to run, with their sending: no answer proves any more that they have not started
	followed  sync.Map           // attempts whose log is followed here while another server drives them: *followedLog
	express   sync.Map           // IDs of the express executions that are driven here

	idled chan struct{} // has one when a slot has become idle since those who wait for room were last told

	yielding sync.Map // slots that end here for something more urgent
	awaited  sync.Map // what is recorded here as waiting for room
	places   *places  // where slots may go

	takeOverSoon func()

	life  context.Context // of this server
	stop  context.CancelFunc
	going sync.WaitGroup

	quotas quotas

	mu      sync.Mutex
	waiting map[warpket.ID]int // express executions that wait for a slot, by project
	wanting map[warpket.ID]int // executions that wait for a slot on demand, by what they share, see SharedWait
}

// sending is that an attempt was sent to a node, and when first.
type sending struct {
	node warpket.ID
	at   time.Time
}

// attempt names one attempt of an execution.
type attempt struct {
	execution warpket.ID
	number    int
}

// New makes Activities.
func New(c Config) *Activities {
	if c.Random == nil {
		c.Random = rand.IntN
	}
	a := &Activities{
		Config: c, starts: make(chan struct{}, maxStarts), waiting: map[warpket.ID]int{}, quotas: quotas{projects: map[warpket.ID]*standing{}},
		wanting: map[warpket.ID]int{}, places: newPlaces(c.Store), idled: make(chan struct{}, 1),
	}
	a.life, a.stop = context.WithCancel(context.Background())
	a.takeOverSoon = once(func() { a.takeOver(a.life) })
	return a
}

// maxStarts is how many workflows a server starts at a time. Requests beyond
// it wait, so that the work that Temporal has before it stays bounded.
const maxStarts = 64

// Catalog knows the templates.
type Catalog interface {
	Template(tag string) (warpket.Template, error)
}

// heartbeat tells Temporal every three seconds that the activity goes on, with
// the words last said, until ctx ends. Saying something tells it at once.
func heartbeat(ctx context.Context) func(string) {
	var last atomic.Value
	last.Store("")
	go func() {
		tick := time.NewTicker(3 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				activity.RecordHeartbeat(ctx, last.Load())
			}
		}
	}()
	return func(text string) {
		last.Store(text)
		activity.RecordHeartbeat(ctx, text)
	}
}

// whileRunning is heartbeat for activities that have nothing to say; call stop
// when the work is done.
func whileRunning(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	heartbeat(ctx)
	return ctx, stop
}

// messageOf is the part of an activity's error that people may read.
func messageOf(err error) string {
	if e, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return e.Message()
	}
	if e, ok := errors.AsType[*warpket.Error](err); ok {
		return e.Message
	}
	if e, ok := errors.AsType[*temporal.TimeoutError](err); ok {
		return "it took too long: " + e.Message()
	}
	return "something went wrong on our side; the server's log says what"
}

// once makes a function that runs f at most once at a time, again after a call
// that came while it ran: many events become few rounds.
func once(f func()) func() {
	var mu sync.Mutex
	running, again := false, false
	return func() {
		mu.Lock()
		defer mu.Unlock()
		if running {
			again = true
			return
		}
		running = true
		go func() {
			for {
				f()
				mu.Lock()
				if !again {
					running = false
					mu.Unlock()
					return
				}
				again = false
				mu.Unlock()
			}
		}()
	}
}
