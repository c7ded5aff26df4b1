package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	logLines = 150
	logGap   = 30 * time.Millisecond // beyond the pause that a node makes between two parts
)

// talker prints when it does so, a line at a time.
var talker = fmt.Sprintf(`
import time

def handler(event, context):
    for _ in range(%d):
        print(time.time_ns(), flush=True)
        time.sleep(%g)
`, logLines, logGap.Seconds())

// measureLogs measures how long after a line was printed who follows the log
// has it. Both read the machine's clock.
func (c config) measureLogs(ctx context.Context, p *product) result {
	r := result{Question: logs, Case: "a line every 30 ms", Peer: express, NoiseBefore: settle(ctx, c.quiet), At: time.Now().UTC().Truncate(time.Second)}
	before := readUsage()
	lags, err := p.followTalker(ctx)
	r.NoiseDuring = readUsage().othersSince(before)
	r.Calls, r.P50, r.P99 = len(lags), percentile(lags, 50), percentile(lags, 99)
	return r.failed(err)
}

// followTalker executes the talker and follows its log, and gives the lag of
// each line in milliseconds.
func (p *product) followTalker(ctx context.Context) ([]float64, error) {
	project, err := p.newProject(ctx)
	if err != nil {
		return nil, err
	}
	f, err := project.createWith(ctx, unique("talker"), talker, templates["echo"])
	if err != nil {
		return nil, err
	}
	ask := project
	ask.server = ask.server.without("Prefer")
	var e execution
	if err := ask.server.post(ctx, "/v1/executions", object{"functionId": f.id, "lane": "express", "sync": false}, &e); err != nil {
		return nil, err
	}
	lags, err := ask.server.lags(ctx, "/v1/executions/"+e.ID+"/log")
	if err == nil && len(lags) < logLines {
		err = fmt.Errorf("only %d of %d lines came", len(lags), logLines)
	}
	if err != nil {
		return nil, err
	}
	return lags, project.remove(ctx, f)
}

// lags follows a log whose lines are times in nanoseconds.
func (c httpClient) lags(ctx context.Context, path string) (lags []float64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header = c.header.Clone()
	request.Header.Set("Accept", "text/event-stream")
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		var event struct{ Text, Status string }
		if !ok || json.Unmarshal([]byte(data), &event) != nil {
			continue
		}
		if event.Status != "" {
			break
		}
		now := time.Now().UnixNano()
		for text := range strings.FieldsSeq(event.Text) {
			if printed, err := strconv.ParseInt(text, 10, 64); err == nil {
				lags = append(lags, float64(now-printed)/1e6)
			}
		}
	}
	return lags, nil
}
