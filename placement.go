package warpket

import "time"

// Decision says why a slot is where it is, and what else was looked at.
type Decision struct {
	Nodes      int         `json:"nodes"`      // in the fleet
	Fits       int         `json:"fits"`       // that had room
	Candidates []Candidate `json:"candidates"` // the best of those, the chosen one first
	Rejected   []Rejection `json:"rejected"`   // the rest, by reason
	Hints      []string    `json:"hints"`      // what would make it fit; only when nothing did
}

// Candidate is a node that had room.
type Candidate struct {
	Node    string   `json:"node"`
	Devices []string `json:"devices"` // that the slot would hold
	Cost    float64  `json:"cost"`    // the least wins
	Why     string   `json:"why"`     // what the cost is made of
}

// Rejection is one reason why nodes had no room.
type Rejection struct {
	Reason   string   `json:"reason"`
	Nodes    int      `json:"nodes"`
	Examples []string `json:"examples"` // a few of them, each with what it lacks
}

// Expect estimates when room comes, from how long the slots on demand have been
// held whose room would do: at a moment of no significance, slots have on the
// mean been held for as long as they will yet be. With none of them nothing
// tells: slots of deployments are given back when somebody wants it.
func (w *Waiting) Expect(held []time.Duration, now time.Time) {
	if len(held) == 0 {
		return
	}
	var sum time.Duration
	for _, d := range held {
		sum += max(d, 0)
	}
	mean, slots := sum/time.Duration(len(held)), time.Duration(len(held))
	w.StartDate = now.Add(time.Duration(w.Position) * mean / slots)
}

// Waiting is a place among those that wait.
type Waiting struct {
	Position  int       // 1 is next
	Reason    string    // what it waits for; empty when it is for its turn in a slot
	Decision  *Decision // what was looked at; nil where it waits for its turn
	StartDate time.Time // when it starts, by what those before it take; zero where nothing tells
}
