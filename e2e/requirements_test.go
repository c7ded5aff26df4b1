package e2e

import (
	"strings"
	"testing"
)

const sixth = "import six\ndef handler(event, context): return six.__version__\n"

// requiring publishes a version of a plain Python function with requirements.
func (c *client) requiring(t *testing.T, requirements string) (id string) {
	t.Helper()
	id = c.python(t, unique("requiring"), sixth, nil)
	c.ok(t, "POST", "/v1/functions/"+id+"/versions", object{"templateFiles": []object{
		{"filename": "handler.py", "content": sixth}, {"filename": "requirements.txt", "content": requirements},
	}})
	return id
}

func TestAFunctionHasThePackagesThatItRequires(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.requiring(t, "six==1.16.0 # pinned\n")
	d := c.deploy(t, id, 3, object{})
	if e := c.execute(t, id, nil); d.Status != "ready" || string(e.Result) != `"1.16.0"` {
		t.Errorf("it is %+v and %+v", d, e)
	}
	if lock := string(c.ok(t, "GET", "/v1/functions/"+id+"/versions/3/lock", nil).body); !strings.Contains(lock, "six==1.16.0") || !strings.Contains(lock, "--hash=sha256:") {
		t.Errorf("its lock is %s", lock)
	}
	if e := c.execute(t, id, object{"version": 2}); e.Status != "failed" || e.Error.Code != "import_failed" {
		t.Errorf("without them it is %+v", e)
	}
}

func TestRequirementsThatCannotBeMetFailTheDeploymentInTheResolversWords(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.requiring(t, "six==999.0\n")
	d := c.deploy(t, id, 3, object{})
	if d.Status != "failed" || !strings.Contains(d.Message, "six==999.0") {
		t.Errorf("it is %+v", d)
	}
	if e := c.execute(t, id, nil); e.Status != "failed" || e.Error.Code != "runtime_failed" || !strings.Contains(e.Error.Message, "six==999.0") {
		t.Errorf("its execution is %+v", e)
	}
}
