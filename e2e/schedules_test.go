package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

type schedule struct {
	ID                string     `json:"id"`
	Status            string     `json:"status"`
	Count             *int       `json:"count"`
	NextExecutionTime *time.Time `json:"nextExecutionTime"`
	LastExecutionID   string     `json:"lastExecutionId"`
	LastError         string     `json:"lastError"`
}

// fired waits until a schedule has fired for another time.
func (c *client) fired(t *testing.T, id, before string) (s schedule) {
	t.Helper()
	until(t, 5*time.Minute, "the schedule fires", func() bool {
		s = as[schedule](t, c.ok(t, "GET", "/v1/schedules/"+id, nil))
		if s.LastError != "" {
			t.Fatalf("it fired in vain: %+v", s)
		}
		return s.LastExecutionID != before
	})
	return s
}

func TestAScheduleFires(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("scheduled"), "def handler(event, context): return event['n'] + 1\n", nil)

	t.Run("once, at a time to come", func(t *testing.T) {
		t.Parallel()
		s := as[schedule](t, c.ok(t, "POST", "/v1/schedules", object{"functionId": id, "input": object{"n": 41}, "firstExecutionTime": time.Now().Add(3 * time.Second)}))
		s = c.fired(t, s.ID, "")
		if s.Status != "done" || s.NextExecutionTime != nil {
			t.Errorf("after its time it is %+v", s)
		}
		if e := c.final(t, s.LastExecutionID); e.Status != "succeeded" || string(e.Result) != "42" {
			t.Errorf("ended %+v %+v", e, e.Error)
		}
	})
	t.Run("every minute, twice", func(t *testing.T) {
		t.Parallel()
		s := as[schedule](t, c.ok(t, "POST", "/v1/schedules", object{"functionId": id, "input": object{"n": 1}, "pattern": "* * * * *", "count": 2}))
		promised := *s.NextExecutionTime
		s = c.fired(t, s.ID, "")
		if *s.Count != 1 || !s.NextExecutionTime.Equal(promised.Add(time.Minute)) {
			t.Errorf("after the first time it is %+v", s)
		}
		first := s.LastExecutionID
		if s = c.fired(t, s.ID, first); s.Status != "done" || *s.Count != 0 {
			t.Errorf("after the second time it is %+v", s)
		}
		for _, execution := range []string{first, s.LastExecutionID} {
			if e := c.final(t, execution); e.Status != "succeeded" || string(e.Result) != "2" {
				t.Errorf("ended %+v %+v", e, e.Error)
			}
		}
	})
}

func TestACallbackIsDeliveredSigned(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	const key = "a shared secret"
	name := "CALLBACK_KEY"
	c.ok(t, "POST", "/v1/secrets", object{"name": name, "value": key})
	type call struct {
		header http.Header
		body   []byte
	}
	calls := make(chan call, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- call{r.Header, body}
	}))
	t.Cleanup(receiver.Close)
	id := c.python(t, unique("calls"), "def handler(event, context): return 'done'\n", nil)
	for _, lane := range []string{"durable", "express"} {
		e := c.execute(t, id, object{"lane": lane, "callbackUrl": receiver.URL + "/done", "callbackSecret": name})
		got := <-calls
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(got.header.Get("Webhook-Id") + "." + got.header.Get("Webhook-Timestamp") + "."))
		mac.Write(got.body)
		if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); got.header.Get("Webhook-Signature") != want {
			t.Errorf("%s: the signature is %q, not %q", lane, got.header.Get("Webhook-Signature"), want)
		}
		var body struct {
			Type string    `json:"type"`
			Data execution `json:"data"`
		}
		if err := json.Unmarshal(got.body, &body); err != nil || body.Data.ID != e.ID || body.Data.Status != "succeeded" || string(body.Data.Result) != `"done"` || got.header.Get("Webhook-Id") != e.ID {
			t.Errorf("%s: told %s (%v)", lane, got.body, err)
		}
	}
}
