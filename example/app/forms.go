package main

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-playground/validator/v10"
)

// form is what a person entered and what is wrong with it, by the fields' names.
type form struct {
	values map[string]string
	errors map[string]string
}

// The forms. A pointer is nil for a field that was not sent.
type (
	newUser struct {
		Name  string `form:"name" validate:"required,max=100"`
		Email string `form:"email" validate:"required,email,max=254"`
	}
	userChange struct {
		Name  *string `form:"name" validate:"omitnil,min=1,max=100"`
		Email *string `form:"email" validate:"omitnil,min=1,email,max=254"`
	}
	newOrder struct {
		Item   string `form:"item" validate:"required,max=100"`
		Amount string `form:"amount" validate:"required,amount"`
	}
)

// maxForm is how many bytes the body of a request can have.
const maxForm = 64 << 10

func newValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string { return f.Tag.Get("form") })
	if err := v.RegisterValidation("amount", func(f validator.FieldLevel) bool {
		_, ok := parseCents(f.Field().String())
		return ok
	}); err != nil {
		panic(err)
	}
	return v
}

// decode fills the fields of dst, a pointer to one of the forms, with what the request sent, and
// validates them. What is wrong with a field is in the form; the error is about the request.
func (a *app) decode(r *http.Request, dst any) (form, error) {
	err := r.ParseForm()
	if err == nil {
		err = r.ParseMultipartForm(maxForm)
	}
	if err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return form{}, fmt.Errorf("%w: %w", errBadRequest, err)
	}
	f := form{values: map[string]string{}, errors: map[string]string{}}
	s := reflect.ValueOf(dst).Elem()
	for i := range s.NumField() {
		name := s.Type().Field(i).Tag.Get("form")
		if !r.PostForm.Has(name) {
			continue
		}
		value := strings.TrimSpace(r.PostForm.Get(name))
		f.values[name] = value
		if field := s.Field(i); field.Kind() == reflect.Pointer {
			field.Set(reflect.ValueOf(&value))
		} else {
			field.SetString(value)
		}
	}
	err = a.validate.Struct(dst)
	if wrong, ok := errors.AsType[validator.ValidationErrors](err); ok {
		for _, e := range wrong {
			f.errors[e.Field()] = message(e)
		}
		return f, nil
	}
	return f, err
}

func message(e validator.FieldError) string {
	switch e.Tag() {
	case "required", "min":
		return "This is needed."
	case "email":
		return "Enter an e-mail address, like ada@example.org."
	case "max":
		return fmt.Sprintf("At most %s characters, please.", e.Param())
	case "amount":
		return "Enter an amount from 0.01 to 999999.99, like 12.50."
	default:
		return "This is not valid."
	}
}

func (f form) valid() bool { return len(f.errors) == 0 }

// Field returns what the template "field" shows: what was entered, or the preset if nothing was.
func (f form) Field(name, label, kind, preset string) field {
	value, sent := f.values[name]
	if !sent {
		value = preset
	}
	return field{Name: name, Label: label, Kind: kind, Value: value, Error: f.errors[name]}
}

type field struct {
	Name, Label, Kind, Value, Error string
}

// parseCents reads an amount of money, "12.50" or "12,5" or "12".
func parseCents(s string) (int64, bool) {
	whole, fraction, found := strings.Cut(strings.Replace(s, ",", ".", 1), ".")
	if found && (fraction == "" || len(fraction) > 2) || len(whole) > 6 {
		return 0, false
	}
	cents, err := strconv.ParseUint(whole+(fraction + "00")[:2], 10, 63)
	return int64(cents), err == nil && whole != "" && cents > 0
}

// money writes an amount of cents.
func money(cents int64) string {
	return fmt.Sprintf("€ %d.%02d", cents/100, cents%100)
}

// taken makes of errEmailTaken what is wrong with the field.
func (f form) taken(err error) error {
	if errors.Is(err, errEmailTaken) {
		f.errors["email"] = "Another user has this e-mail address."
		return nil
	}
	return err
}
