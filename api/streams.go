package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/live"
)

const eventStream = "text/event-stream"

func (s *Server) addStreams() {
	tags := []string{"Executions"}
	log := bytesResponse("text/plain", "What is there of the log now")
	log["200"].Content["text/plain"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	log["200"].Content[eventStream] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	register(s, Read, huma.Operation{
		OperationID: "get-execution-log", Method: http.MethodGet, Path: "/v1/executions/{id}/log", Tags: tags, Summary: "Get the log of an execution",
		Description: "What the handler wrote to stdout and stderr, at most 1 MiB of it. As text/plain what is there now, at any server: one that has to ask the execution's node waits a moment for it; with `Accept: text/event-stream` all of it as it is written, until the execution is final: " +
			"events `log` with `{\"text\"}`, whose ID is the place after it (send it as Last-Event-ID to go on from there, at any server: nothing is missed and nothing comes twice), then one event `end` with `{\"status\"}`. " +
			"When the execution is tried again its log begins anew, after an event `attempt` with `{\"attempt\"}`.",
		Errors: []int{http.StatusNotFound}, Responses: log,
	}, s.getLog, byLoading)
	events := bytesResponse(eventStream, "Events")
	events["200"].Content[eventStream] = &huma.MediaType{} // tools take a schema for that of one event
	register(s, Read, huma.Operation{
		OperationID: "get-execution-events", Method: http.MethodGet, Path: "/v1/executions/{id}/events", Tags: tags, Summary: "Follow an execution",
		Description: "As text/event-stream: an event `execution` with the execution now and after each change of its status or attempt, until it is final. Send the ID of the last event as Last-Event-ID, at any server, to get only what has changed since.",
		Errors:      []int{http.StatusNotFound}, Responses: events,
	}, s.getEvents, byLoading)
}

func (s *Server) getLog(ctx context.Context, in *struct {
	ExecutionInput
	Accept string `header:"Accept" hidden:"true"`
	Last   string `header:"Last-Event-ID" maxLength:"32" doc:"ID of the last event, to go on from there"`
},
) (*huma.StreamResponse, error) {
	e, err := s.execution(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(in.Accept, eventStream) {
		b, err := s.logOf(ctx, e.ProjectID, e.ID, true)
		if err != nil {
			return nil, err
		}
		return stream("text/plain; charset=utf-8", func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		}), nil
	}
	place, err := parsePlace(in.Last)
	if err != nil {
		return nil, err
	}
	return s.events(func(ctx context.Context, send func(id, name string, data any) error) error {
		return s.followLog(ctx, e, place, send)
	}), nil
}

// parsePlace reads the ID of an event of a log: ATTEMPT-OFFSET.
func parsePlace(id string) (p live.Place, err error) {
	if id == "" {
		return p, nil
	}
	attempt, offset, ok := strings.Cut(id, "-")
	if p.Attempt, err = strconv.Atoi(attempt); ok && err == nil {
		p.Offset, err = strconv.ParseInt(offset, 10, 64)
	}
	if !ok || err != nil || p.Attempt < 0 || p.Offset < 0 {
		return p, warpket.Errorf(warpket.Invalid, "Last-Event-ID is the ID of an event of this log, such as 1-1024").At("header.Last-Event-ID")
	}
	return p, nil
}

// logReader sends the parts of a log, each once and in order.
type logReader struct {
	place live.Place
	send  func(id, name string, data any) error
}

// part sends what is at a place: the reader's, or the beginning of a later
// attempt.
func (r *logReader) part(at live.Place, data []byte) error {
	if at.Attempt > r.place.Attempt && r.place.Attempt > 0 {
		if err := r.send(fmt.Sprintf("%d-0", at.Attempt), "attempt", map[string]int{"attempt": at.Attempt}); err != nil {
			return err
		}
	}
	r.place = at
	if len(data) == 0 {
		return nil
	}
	r.place.Offset += int64(len(data))
	return r.send(fmt.Sprintf("%d-%d", r.place.Attempt, r.place.Offset), "log", map[string]string{"text": string(data)})
}

// followLog sends a log from a place to its end.
func (s *Server) followLog(ctx context.Context, e warpket.Execution, from live.Place, send func(id, name string, data any) error) error {
	news := s.Hub.Watch(e.ID)
	defer news.Close()
	r := &logReader{from, send}
	e, err := s.Store.Execution(ctx, e.ProjectID, e.ID)
	if err == nil && !e.Status.Final() {
		if err := s.followLive(ctx, e, r); err != nil {
			return err
		}
		e, err = s.Store.Execution(ctx, e.ProjectID, e.ID)
	}
	if err != nil {
		return err
	}
	// What came last may not have passed through this server.
	all, err := s.finalLog(ctx, e)
	if err != nil {
		return err
	}
	at := live.Place{Attempt: e.Attempt}
	if r.place.Attempt == e.Attempt {
		at.Offset = min(r.place.Offset, int64(len(all)))
	}
	if err := r.part(at, all[at.Offset:]); err != nil {
		return err
	}
	return send("", "end", map[string]string{"status": string(e.Status)})
}

// followLive passes on what comes until the execution is final.
func (s *Server) followLive(ctx context.Context, e warpket.Execution, r *logReader) error {
	ended := make(chan struct{})
	follow, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(ended)
		s.awaitFinal(follow, e)
	}()
	go s.Fleet.FollowLog(follow, e)
	log := s.Hub.Log(e.ID)
	for {
		at, data, over, more := log.Read(r.place)
		if over {
			return nil // the rest is in the record
		}
		if data = wholeRunes(data); len(data) > 0 {
			if err := r.part(at, data); err != nil {
				return err
			}
			continue
		}
		select {
		case <-more:
		case <-ended: // elsewhere: nothing more comes through here
			return ctx.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wholeRunes leaves out a character at the end of which only a part is there: in
// JSON the two parts would not be text.
func wholeRunes(b []byte) []byte {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return b[:i]
			}
			break
		}
	}
	return b
}

// awaitFinal returns when an execution is final, here or elsewhere.
func (s *Server) awaitFinal(ctx context.Context, e warpket.Execution) {
	out, err := s.followExecution(context.WithValue(ctx, callerKey{}, caller{project: e.ProjectID}), ctx, e.ID, true)
	if err != nil || out == nil {
		<-ctx.Done()
	}
}

func (s *Server) getEvents(ctx context.Context, in *struct {
	ExecutionInput
	Last string `header:"Last-Event-ID" maxLength:"32" doc:"ID of the last event, to go on from there"`
},
) (*huma.StreamResponse, error) {
	e, err := s.execution(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.events(func(ctx context.Context, send func(id, name string, data any) error) error {
		return s.followStatus(ctx, e, in.Last, send)
	}), nil
}

// followStatus sends an execution after each change since the event last.
func (s *Server) followStatus(ctx context.Context, e warpket.Execution, last string, send func(id, name string, data any) error) error {
	news := s.Hub.Watch(e.ID)
	defer news.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.awaitFinal(ctx, e)
	}()
	for {
		e, err := s.Store.Execution(ctx, e.ProjectID, e.ID)
		if err != nil {
			return err
		}
		if now := fmt.Sprintf("%d-%s", e.Attempt, e.Status); now != last {
			last = now
			if err := send(now, "execution", s.toExecution(e)); err != nil {
				return err
			}
		}
		if e.Status.Final() {
			return nil
		}
		wake(ctx, news, ended)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func wake(ctx context.Context, news *live.Watch, ended <-chan struct{}) {
	select {
	case <-news.C:
	case <-ended:
	case <-ctx.Done():
	}
}

// events answers with server-sent events. (WHATWG HTML, section 9.2)
func (s *Server) events(follow func(ctx context.Context, send func(id, name string, data any) error) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		hctx.SetHeader("Content-Type", eventStream)
		hctx.SetHeader("Cache-Control", "no-store")
		w := hctx.BodyWriter()
		flush := func() {
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
		}
		flush()
		err := follow(hctx.Context(), func(id, name string, data any) error {
			b, err := json.Marshal(data)
			if err != nil {
				return err
			}
			if id != "" {
				id = "id: " + id + "\n"
			}
			if _, err := fmt.Fprintf(w, "%sevent: %s\ndata: %s\n\n", id, name, b); err != nil {
				return err
			}
			flush()
			return nil
		})
		if err != nil && hctx.Context().Err() == nil {
			s.Log.Warn("stream broke off", "error", err)
		}
	}}
}
