package node

import (
	"errors"
	"io"
	"strings"
	"testing"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

func bucket(t *testing.T, n *Node, name string) *catalog.Container {
	t.Helper()
	c, _, err := n.Ops.CreateContainer(t.Context(), &catalog.Container{Account: "main", Name: name, Global: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t *testing.T, n *Node, container, name, value string) *catalog.Object {
	t.Helper()
	o, err := n.Ops.Put(t.Context(), &ops.Put{
		Container: bucket(t, n, container), Name: name, Body: strings.NewReader(value), Size: int64(len(value)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// get returns an object's bytes, "(none)" if it does not exist.
func get(t *testing.T, n *Node, container, name string) string {
	t.Helper()
	c, err := n.Ops.Resolve(t.Context(), "main", container)
	if err != nil {
		t.Fatal(err)
	}
	h, err := n.Ops.Open(t.Context(), c, name)
	if errs.Is(err, errs.NotFound) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	r, err := h.Range(t.Context(), 0, h.Object.Size)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, n *Node, container string) []string {
	t.Helper()
	c, err := n.Ops.Resolve(t.Context(), "main", container)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for marker := ""; ; {
		p, err := n.Ops.List(t.Context(), c, &ops.Query{Marker: marker, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range p.Items {
			out = append(out, i.Name)
			marker = i.Name
		}
		if !p.More {
			return out
		}
	}
}

var listAll = &ops.Query{Limit: 1000}
