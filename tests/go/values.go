package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Service is a struct with fields of several kinds, and methods.
type Service struct {
	Name   string
	Port   int
	Weight float64
	Tags   Tags
	Meta   map[string]string
	Next   *Service
	Any    any
}

// Address is a method without arguments.
func (s *Service) Address() string { return s.Name + ".service" }

// Plus is a method with arguments.
func (s *Service) Plus(a, b int) int { return s.Port + a + b }

// Join is a variadic method.
func (s *Service) Join(separator string, parts ...string) string {
	return s.Name + separator + strings.Join(parts, separator)
}

// Fail is a method that may fail.
func (s *Service) Fail(why string) (string, error) { return "", fmt.Errorf("failed: %s", why) }

// Self gives the service again, so that calls can be chained.
func (s *Service) Self() *Service { return s }

// Anything gives a value behind an interface.
func (s *Service) Anything() any { return s.Any }

// Tags is a named list with a method.
type Tags []string

// Contains says whether tag is among them.
func (t Tags) Contains(tag string) bool {
	for _, each := range t {
		if each == tag {
			return true
		}
	}
	return false
}

// Seconds is a named number with a text of its own.
type Seconds int64

func (s Seconds) String() string { return strconv.FormatInt(int64(s), 10) + "s" }

// Double is a method of a number.
func (s Seconds) Double() Seconds { return 2 * s }

func whole(v any) int64 {
	i, err := strconv.ParseInt(string(v.(json.Number)), 10, 64)
	if err != nil {
		panic(err)
	}
	return i
}

func unsigned(v any) uint64 {
	u, err := strconv.ParseUint(string(v.(json.Number)), 10, 64)
	if err != nil {
		panic(err)
	}
	return u
}

func float(v any) float64 {
	switch v {
	case "NaN":
		return math.NaN()
	case "+Inf":
		return math.Inf(1)
	case "-Inf":
		return math.Inf(-1)
	case "-0":
		return math.Copysign(0, -1)
	}
	f, err := v.(json.Number).Float64()
	if err != nil {
		panic(err)
	}
	return f
}

func values(v any) []any {
	list := v.([]any)
	out := make([]any, len(list))
	for i, each := range list {
		out[i] = value(each)
	}
	return out
}

func typed[T any](v any) []T {
	out := []T{}
	for _, each := range values(v) {
		out = append(out, each.(T))
	}
	return slices.Clip(out)
}

func mapOf[K comparable, V any](v any, key func(any) K, element func(any) V) map[K]V {
	out := map[K]V{}
	for _, pair := range v.([]any) {
		out[key(pair.([]any)[0])] = element(pair.([]any)[1])
	}
	return out
}

func text(v any) string { return v.(string) }

// value decodes tagged JSON.
func value(v any) any {
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(string(v), ".eE") {
			return float(v)
		}
		return int(whole(v))
	case []any:
		return values(v)
	case map[string]any:
		if len(v) == 1 {
			for tag, inner := range v {
				if strings.HasPrefix(tag, "$") {
					return tagged(tag, inner)
				}
			}
		}
		out := map[string]any{}
		for key, inner := range v {
			out[key] = value(inner)
		}
		return out
	}
	return v
}

func tagged(tag string, v any) any {
	switch tag {
	case "$int8":
		return int8(whole(v))
	case "$int16":
		return int16(whole(v))
	case "$int32":
		return int32(whole(v))
	case "$int64":
		return whole(v)
	case "$uint":
		return uint(unsigned(v))
	case "$uint8":
		return uint8(unsigned(v))
	case "$uint16":
		return uint16(unsigned(v))
	case "$uint32":
		return uint32(unsigned(v))
	case "$uint64":
		return unsigned(v)
	case "$float":
		return float(v)
	case "$float32":
		return float32(float(v))
	case "$complex":
		return complex(float(v.([]any)[0]), float(v.([]any)[1]))
	case "$bytes":
		b, err := base64.StdEncoding.DecodeString(v.(string))
		if err != nil {
			panic(err)
		}
		return string(b)
	case "$strings":
		return typed[string](v)
	case "$ints":
		return typed[int](v)
	case "$floats":
		return typed[float64](v)
	case "$bools":
		return typed[bool](v)
	case "$maps":
		return typed[map[string]any](v)
	case "$lists":
		return typed[[]any](v)
	case "$stringMap":
		return mapOf(v, text, text)
	case "$intMap":
		return mapOf(v, text, func(e any) int { return int(whole(e)) })
	case "$byInt":
		return mapOf(v, func(k any) int { return int(whole(k)) }, value)
	case "$byFloat":
		return mapOf(v, float, value)
	case "$byUint8":
		return mapOf(v, func(k any) uint8 { return uint8(unsigned(k)) }, text)
	case "$byBool":
		return mapOf(v, func(k any) bool { return k.(bool) }, text)
	case "$byAny":
		return mapOf(v, value, value)
	case "$services":
		return typed[*Service](v)
	case "$tags":
		return Tags(typed[string](v))
	case "$seconds":
		return Seconds(whole(v))
	case "$nil":
		switch v {
		case "*Service":
			return (*Service)(nil)
		case "[]string":
			return []string(nil)
		case "map[string]int":
			return map[string]int(nil)
		case "func":
			return (func() string)(nil)
		}
	case "$service":
		fields := v.(map[string]any)
		s := &Service{Tags: Tags{}}
		for name, inner := range fields {
			decoded := value(inner)
			switch name {
			case "Name":
				s.Name = decoded.(string)
			case "Port":
				s.Port = decoded.(int)
			case "Weight":
				s.Weight = float(inner)
			case "Tags":
				s.Tags = decoded.(Tags)
			case "Meta":
				s.Meta = decoded.(map[string]string)
			case "Next":
				s.Next = decoded.(*Service)
			case "Any":
				s.Any = decoded
			default:
				panic("no field " + name)
			}
		}
		return s
	case "$func":
		switch v {
		case "greet":
			return func() string { return "hello" }
		case "square":
			return func(i int) int { return i * i }
		case "join":
			return func(s string, parts ...string) string { return strings.Join(parts, s) }
		case "fail":
			return func() (int, error) { return 0, fmt.Errorf("func failed") }
		}
	case "$chan":
		return channel(int(whole(v)))
	case "$seq":
		return sequence(int(whole(v)))
	case "$seq2":
		return sequence2(int(whole(v)))
	}
	panic("no tag " + tag)
}
