package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

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
		Description: "What the handler wrote to stdout and stderr, at most 1 MiB of it. As text/plain what is there now; with `Accept: text/event-stream` all of it as it is written, until the execution is final: " +
			"events `log` with `{\"text\"}`, whose ID is the offset after it (send it as Last-Event-ID to go on from there), then one event `end` with `{\"status\"}`.",
		Errors: []int{http.StatusNotFound}, Responses: log,
	}, s.getLog)
	events := bytesResponse(eventStream, "Events")
	events["200"].Content[eventStream].Schema = &huma.Schema{Type: huma.TypeString}
	register(s, Read, huma.Operation{
		OperationID: "get-execution-events", Method: http.MethodGet, Path: "/v1/executions/{id}/events", Tags: tags, Summary: "Follow an execution",
		Description: "As text/event-stream: an event `execution` with the execution now and after each change, until it is final.",
		Errors:      []int{http.StatusNotFound}, Responses: events,
	}, s.getEvents)
}

func (s *Server) getLog(ctx context.Context, in *struct {
	ExecutionInput
	Accept string `header:"Accept" hidden:"true"`
	Last   string `header:"Last-Event-ID" maxLength:"20" doc:"Offset to go on from"`
},
) (*huma.StreamResponse, error) {
	e, err := s.execution(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(in.Accept, eventStream) {
		b, err := s.logOf(ctx, e.ProjectID, e.ID)
		if err != nil {
			return nil, err
		}
		return stream("text/plain; charset=utf-8", func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		}), nil
	}
	offset, err := strconv.ParseInt(in.Last, 10, 64)
	if in.Last != "" && err != nil {
		return nil, warpket.Errorf(warpket.Invalid, "Last-Event-ID is an offset, such as 1024").At("header.Last-Event-ID")
	}
	return s.events(func(ctx context.Context, send func(id, name string, data any) error) error {
		return s.followLog(ctx, e, offset, send)
	}), nil
}

// followLog sends a log from an offset to its end.
func (s *Server) followLog(ctx context.Context, e warpket.Execution, offset int64, send func(id, name string, data any) error) error {
	news := s.Hub.Watch(e.ID)
	defer news.Close()
	part := func(data []byte) error {
		if len(data) == 0 {
			return nil
		}
		offset += int64(len(data))
		return send(strconv.FormatInt(offset, 10), "log", map[string]string{"text": string(data)})
	}
	e, err := s.Store.Execution(ctx, e.ProjectID, e.ID)
	if err == nil && !e.Status.Final() {
		if err := s.followLive(ctx, e, offset, part); err != nil {
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
	if rest := min(max(offset, 0), int64(len(all))); int64(len(all)) > rest {
		if err := part(all[rest:]); err != nil {
			return err
		}
	}
	return send("", "end", map[string]string{"status": string(e.Status)})
}

// followLive passes on what comes until the execution is final.
func (s *Server) followLive(ctx context.Context, e warpket.Execution, offset int64, part func([]byte) error) error {
	ended := make(chan struct{})
	follow, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(ended)
		s.awaitFinal(follow, e)
	}()
	log := s.Hub.Log(e.ID)
	for {
		data, over, more := log.Read(offset)
		if len(data) > 0 {
			if err := part(data); err != nil {
				return err
			}
			offset += int64(len(data))
			continue
		}
		if over {
			return nil
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

// awaitFinal returns when an execution is final, here or elsewhere.
func (s *Server) awaitFinal(ctx context.Context, e warpket.Execution) {
	out, err := s.followExecution(context.WithValue(ctx, callerKey{}, caller{project: e.ProjectID}), ctx, e.ID, true)
	if err != nil || out == nil {
		<-ctx.Done()
	}
}

func (s *Server) getEvents(ctx context.Context, in *ExecutionInput) (*huma.StreamResponse, error) {
	e, err := s.execution(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.events(func(ctx context.Context, send func(id, name string, data any) error) error {
		return s.followStatus(ctx, e, send)
	}), nil
}

func (s *Server) followStatus(ctx context.Context, e warpket.Execution, send func(id, name string, data any) error) error {
	news := s.Hub.Watch(e.ID)
	defer news.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.awaitFinal(ctx, e)
	}()
	last := ""
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
