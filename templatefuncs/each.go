package templatefuncs

import (
	"fmt"
	"io"
	"reflect"
	"text/template"
)

// iteration is a collection that is no list, as the data of a template that ranges over it. So what can
// be ranged over, and in which order, is as templates have it.
type iteration struct {
	collection reflect.Value
	visit      func(reflect.Value) error
	failed     error // what visit has returned
}

var ranging = template.Must(template.New("fragments").Parse("{{range .Elements}}{{$.Visit .}}{{end}}"))

// each calls visit for all elements of what range takes.
func each(collection reflect.Value, visit func(reflect.Value) error) error {
	it := &iteration{collection: collection, visit: visit}
	err := ranging.Execute(io.Discard, it)
	switch {
	case it.failed != nil:
		return it.failed
	case err != nil:
		// Where it failed in the template above says nothing to anybody.
		return fmt.Errorf("range can't iterate over %v", collection)
	}
	return nil
}

// Elements is called by the template.
func (it *iteration) Elements() reflect.Value { return it.collection }

// Visit is called by the template, with each element.
func (it *iteration) Visit(element reflect.Value) (string, error) {
	it.failed = it.visit(element)
	return "", it.failed
}
