package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func TestAProjectLivesWithItsOwnTokensAndQuotaAndLeavesNothing(t *testing.T) {
	t.Parallel()
	operator := theProduct(t)
	project := as[struct{ ID, Name string }](t, operator.ok(t, "POST", "/v1/projects", object{"name": unique("lab")}))
	token := func(c *client, body object) *client {
		return &client{c.api, as[struct{ Token string }](t, c.ok(t, "POST", "/v1/tokens", body)).Token}
	}
	admin := token(operator, object{"projectId": project.ID, "role": "admin", "name": "admin"})
	id := admin.python(t, "answers", "def handler(event, context):\n    return 42\n", nil)
	other := admin.python(t, "other", "def handler(event, context):\n    return 0\n", nil)

	admin.ok(t, "POST", "/v1/projects/"+project.ID+"/members", object{"name": "ada", "role": "member"})
	ada := token(admin, object{"role": "member", "name": "laptop", "member": "ada", "functions": []string{id}})
	if e := ada.execute(t, id, nil); string(e.Result) != "42" {
		t.Errorf("hers answers %+v", e)
	}
	if a := ada.send(t, "POST", "/v1/executions", object{"functionId": other}); a.status != http.StatusNotFound {
		t.Errorf("the other function: %d %s", a.status, a.body)
	}

	operator.ok(t, "PUT", "/v1/projects/"+project.ID+"/quotas", object{"functions": 2, "slots": 1})
	a := admin.send(t, "POST", "/v1/functions", object{"functionName": "third", "templateLanguageTag": "Python", "sdkVersion": admin.pythonVersion(t)})
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || as[problem](t, a).Code != "over_quota" {
		t.Errorf("a third function: %d %s", a.status, a.body)
	}
	// Its one slot goes from one function to the other.
	if e := admin.execute(t, other, nil); string(e.Result) != "0" {
		t.Errorf("with one slot for two functions: %+v", e)
	}
	a = admin.send(t, "POST", "/v1/functions/"+id+"/versions/2/deployments", object{"slots": 2})
	if a.status != http.StatusTooManyRequests {
		t.Errorf("two slots: %d %s", a.status, a.body)
	}

	used := as[struct {
		Items []struct {
			FunctionID                 string
			Succeeded                  int
			MemorySeconds, SlotSeconds float64
		}
	}](t, admin.ok(t, "GET", "/v1/usage?by=function", nil)).Items
	if len(used) != 2 || used[0].Succeeded+used[1].Succeeded != 2 || used[1].SlotSeconds <= 0 || used[1].MemorySeconds <= 0 {
		t.Errorf("it has used %+v", used)
	}
	acts := string(admin.ok(t, "GET", "/v1/audit?operation=create-function", nil).body)
	if strings.Count(acts, `"succeeded"`) != 2 || strings.Count(acts, `"refused"`) != 1 {
		t.Errorf("the audit tells of its functions %s", acts)
	}

	key := as[version](t, admin.ok(t, "GET", "/v1/functions/"+id+"/versions/2", nil)).Files[0].Key
	if operator.gone(t, key) {
		t.Fatalf("there is no object %s", key)
	}
	if a := operator.send(t, "DELETE", "/v1/projects/"+project.ID, nil); a.status != http.StatusConflict {
		t.Errorf("deleting it with its functions: %d %s", a.status, a.body)
	}
	operator.ok(t, "DELETE", "/v1/projects/"+project.ID+"?force=true", nil)
	for _, c := range []*client{admin, ada} {
		if a := c.send(t, "GET", "/v1/functions", nil); a.status != http.StatusUnauthorized {
			t.Errorf("its tokens after that: %d %s", a.status, a.body)
		}
	}
	until(t, 3*time.Minute, "its objects are gone", func() bool { return operator.gone(t, key) })
	operator.ok(t, "POST", "/v1/projects", object{"name": project.Name})
	after := string(operator.ok(t, "GET", "/v1/usage?by=function&projectId="+project.ID, nil).body)
	if strings.Count(after, id) != 1 {
		t.Errorf("its usage after that: %s", after)
	}
}

// gone reports whether there is no such object.
func (c *client) gone(t *testing.T, key string) bool {
	t.Helper()
	u, err := url.Parse(shared.dev.S3)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := u.User.Password()
	s3, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(u.User.Username(), secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s3.StatObject(t.Context(), strings.Trim(u.Path, "/"), key, minio.StatObjectOptions{})
	if err != nil && minio.ToErrorResponse(err).StatusCode != http.StatusNotFound {
		t.Fatal(err)
	}
	return err != nil
}
