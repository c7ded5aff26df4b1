package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	tokenID    = "019b0000-0000-7000-8000-00000000000a"
	scheduleID = "019b0000-0000-7000-8000-00000000000b"
	webhookID  = "019b0000-0000-7000-8000-00000000000c"
)

const (
	token    = `{"id":"` + tokenID + `","projectId":"p","role":"member","name":"ci","description":"","createdDate":"2025-01-01T00:00:00Z"`
	schedule = `{"id":"` + scheduleID + `","name":"nightly","functionId":"` + functionID + `","functionName":"bell","input":{},"pattern":"@daily","count":null,"status":"running",` +
		`"nextExecutionTime":"2027-01-01T00:00:00Z","createdDate":"2025-01-01T00:00:00Z","updatedDate":"2025-01-01T00:00:00Z"}`
	alias   = `{"name":"prod","description":"","functionId":"` + functionID + `","versions":[{"version":3,"weight":90},{"version":4,"weight":10}],"createdDate":"2025-01-01T00:00:00Z","updatedDate":"2025-01-01T00:00:00Z"}`
	webhook = `{"id":"` + webhookID + `","url":"/v1/webhooks/` + webhookID + `/invoke","description":"","signature":"github","ratePerMinute":60,"sync":false,"createdDate":"2025-01-01T00:00:00Z","updatedDate":"2025-01-01T00:00:00Z"}`
	secret  = `{"name":"KEY","createdDate":"2025-01-01T00:00:00Z","updatedDate":"2025-01-01T00:00:00Z"}`
)

func TestVerbsOfGroupsAskForWhatTheySay(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args  []string
		stdin string
		asked []string
		out   string // that it prints, among others
		code  int
	}{
		"creating a token": {
			args: []string{"token", "create", "ci", "--function", "bell"}, out: "wk_new\n",
			asked: []string{`POST /v1/tokens {"functions":["` + functionID + `"],"name":"ci","role":"member"}`},
		},
		"listing tokens":               {args: []string{"token", "list"}, out: tokenID},
		"revoking a token by its name": {args: []string{"token", "revoke", "ci"}, asked: []string{"DELETE /v1/tokens/" + tokenID}},
		"revoking a token by its ID":   {args: []string{"token", "revoke", tokenID}, asked: []string{"DELETE /v1/tokens/" + tokenID}},
		"revoking no token":            {args: []string{"token", "revoke", "other"}, code: exitNotFound},
		"scheduling a function": {
			args: []string{"schedule", "create", "bell", "--pattern", "@daily", "--input", `{"n": 1}`}, out: scheduleID,
			asked: []string{`POST /v1/schedules {"functionId":"` + functionID + `","input":{"n":1},"pattern":"@daily"}`},
		},
		"scheduling an alias": {
			args: []string{"schedule", "create", "--alias", "prod", "--at", "2027-01-01T00:00:00Z"}, out: scheduleID,
			asked: []string{`POST /v1/schedules {"alias":"prod","firstExecutionTime":"2027-01-01T00:00:00Z"}`},
		},
		"scheduling nothing":  {args: []string{"schedule", "create", "--pattern", "@daily"}, code: exitUsage},
		"scheduling at a day": {args: []string{"schedule", "create", "bell", "--at", "tomorrow"}, code: exitUsage},
		"scheduling both":     {args: []string{"schedule", "create", "bell", "--alias", "prod", "--pattern", "@daily"}, code: exitUsage},
		"listing schedules":   {args: []string{"schedule", "list"}, out: "no end"},
		"pausing":             {args: []string{"schedule", "pause", scheduleID}, asked: []string{`PATCH /v1/schedules/` + scheduleID + ` {"status":"paused"}`}},
		"resuming":            {args: []string{"schedule", "resume", scheduleID, "--json"}, out: schedule, asked: []string{`PATCH /v1/schedules/` + scheduleID + ` {"status":"running"}`}},
		"ending a schedule":   {args: []string{"schedule", "delete", scheduleID, "--json"}, out: "{}\n", asked: []string{"DELETE /v1/schedules/" + scheduleID}},
		"changing an alias": {
			args:  []string{"alias", "set", "prod", "bell", "3:90", "v4:10"},
			asked: []string{`PATCH /v1/aliases/prod {"functionId":"` + functionID + `","versions":[{"version":3,"weight":90},{"version":4,"weight":10}]}`},
		},
		"a new alias": {
			args: []string{"alias", "set", "new", "bell", "3"}, asked: []string{
				`PATCH /v1/aliases/new {"functionId":"` + functionID + `","versions":[{"version":3,"weight":1}]}`,
				`POST /v1/aliases {"functionId":"` + functionID + `","name":"new","versions":[{"version":3,"weight":1}]}`,
			},
		},
		"an alias of the draft":     {args: []string{"alias", "set", "prod", "bell", "draft"}, code: exitUsage},
		"an alias of a word":        {args: []string{"alias", "set", "prod", "bell", "3:much"}, code: exitUsage},
		"an alias of nothing":       {args: []string{"alias", "set", "prod", "bell"}, code: exitUsage},
		"deleting an alias":         {args: []string{"alias", "delete", "prod"}, asked: []string{"DELETE /v1/aliases/prod"}},
		"a webhook":                 {args: []string{"webhook", "create", "bell"}, out: "/v1/webhooks/" + webhookID + "/invoke", asked: []string{`POST /v1/webhooks {"functionId":"` + functionID + `"}`}},
		"a signed webhook":          {args: []string{"webhook", "create", "--alias", "prod", "--signature", "github"}, stdin: "0123456789abcdef\n", asked: []string{`POST /v1/webhooks {"alias":"prod","secret":"0123456789abcdef","signature":"github"}`}},
		"a signature of nothing":    {args: []string{"webhook", "create", "bell", "--signature", "github"}, code: exitRefused},
		"a secret that is there":    {args: []string{"secret", "set", "KEY"}, stdin: "va lue\r\n", asked: []string{`PATCH /v1/secrets/KEY {"value":"va lue"}`}},
		"a secret of several lines": {args: []string{"secret", "set", "KEY"}, stdin: "a\nb\n\n", asked: []string{`PATCH /v1/secrets/KEY {"value":"a\nb\n"}`}},
		"a new secret":              {args: []string{"secret", "set", "NEW"}, stdin: "x", asked: []string{`PATCH /v1/secrets/NEW {"value":"x"}`, `POST /v1/secrets {"name":"NEW","value":"x"}`}},
		"a secret without a value":  {args: []string{"secret", "set", "KEY"}, code: exitRefused},
		"a group without a verb":    {args: []string{"token"}, out: "revoke"},
		"a group with another verb": {args: []string{"token", "revok"}, code: exitUsage},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAPI(t)
			s.on("GET /v1/functions", 200, list(bell))
			s.on("GET /v1/tokens", 200, list(token+"}"))
			s.on("POST /v1/tokens", 200, token+`,"token":"wk_new"}`)
			s.on("DELETE /v1/", 204, "")
			s.on("GET /v1/schedules", 200, list(schedule))
			s.on("POST /v1/schedules", 200, schedule)
			s.on("PATCH /v1/schedules/"+scheduleID, 200, schedule)
			s.on("PATCH /v1/aliases/prod", 200, alias)
			s.onProblem("PATCH /v1/aliases/new", 404, "not_found", "there is no alias")
			s.on("POST /v1/aliases", 200, alias)
			s.on("POST /v1/webhooks", 200, webhook)
			s.on("PATCH /v1/secrets/KEY", 200, secret)
			s.onProblem("PATCH /v1/secrets/NEW", 404, "not_found", "there is no secret")
			s.on("POST /v1/secrets", 200, secret)
			got := command(t.Context(), Env{API: s.URL, Token: "wk_1_2", ConfigDir: t.TempDir()}, tt.stdin, tt.args...)
			if got.code != tt.code || !strings.Contains(got.out, tt.out) {
				t.Errorf("exit %d\n%s%s", got.code, got.out, got.err)
			}
			if diff := cmp.Diff(tt.asked, s.requests()); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(got.out+got.err, "0123456789abcdef") {
				t.Error("it shows the secret")
			}
		})
	}
}

func TestUsageIsDrawnBesideWhatMayBeUsed(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.on("GET /v1/functions", 200, list(bell))
	s.on("GET /v1/quotas", 200, `{"projectId":"p","limits":{"functions":4,"slots":0,"storage":2097152},"own":{},"used":{"functions":1,"slots":0,"executions":2,"storage":3145728},"updatedDate":"2025-01-01T00:00:00Z"}`)
	s.on("GET /v1/usage", 200, list(
		`{"functionId":"`+functionID+`","succeeded":3,"failed":1,"cancelled":0,"timedOut":0,"lost":0,"cpuSeconds":2.5,"memorySeconds":0,"gpuSeconds":0,"slotSeconds":10}`,
		`{"functionId":"gone","succeeded":0,"failed":0,"cancelled":0,"timedOut":0,"lost":0,"cpuSeconds":0,"memorySeconds":0,"gpuSeconds":0,"slotSeconds":1}`))
	got := s.command(t, "usage")
	if got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.err)
	}
	for _, want := range []string{"functions                       1 of 4          ██████░░░░░░░░░░░░░░░░░░  25 %", "executions open                 2\n", " 100 %", "bell      4           2.5", "gone      0"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is missing:\n%s", want, got.out)
		}
	}
	if got := s.command(t, "usage", "--json"); !strings.HasPrefix(got.out, `{"quota":{"projectId":"p"`) || !strings.Contains(got.out, `"usage":[{`) {
		t.Errorf("as JSON it is %s", got.out)
	}
}
