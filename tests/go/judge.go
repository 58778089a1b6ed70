// Judge renders templates with the real text/template, for the tests of ours.
//
// A line of standard input is a case in JSON, a line of standard output its result:
//
//	{"texts": [["name", "text"], …], "data": …, "missing": "error", "left": "<<", "right": ">>"}
//	{"out": "base64", "phase": "", "err": ""}
//
// The phase of an error is "parse" or "exec". Data are JSON with tags for what JSON does not have:
// an object with one key that begins with $ is a value of a type, see value.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
)

type task struct {
	Texts   [][2]string
	Data    any
	Missing string
	Left    string
	Right   string
}

type result struct {
	Out   string `json:"out"`
	Phase string `json:"phase"`
	Err   string `json:"err"`
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			answer, _ := json.Marshal(judged(line))
			out.Write(answer)
			out.WriteByte('\n')
			if in.Buffered() == 0 {
				out.Flush()
			}
		}
		if err != nil {
			break
		}
	}
	out.Flush()
}

func judged(line []byte) (r result) {
	defer func() {
		if p := recover(); p != nil {
			r = result{Phase: "panic", Err: fmt.Sprint(p)}
		}
	}()
	var t task
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	if err := decoder.Decode(&t); err != nil {
		return result{Phase: "judge", Err: err.Error()}
	}
	root := template.New(t.Texts[0][0]).Delims(t.Left, t.Right).Funcs(functions)
	if t.Missing != "" {
		root.Option("missingkey=" + t.Missing)
	}
	for i, text := range t.Texts {
		each := root
		if i > 0 {
			each = root.New(text[0])
		}
		if _, err := each.Parse(text[1]); err != nil {
			return result{Phase: "parse", Err: err.Error()}
		}
	}
	var out bytes.Buffer
	if err := root.Execute(&out, value(t.Data)); err != nil {
		return result{Phase: "exec", Err: err.Error()}
	}
	return result{Out: base64.StdEncoding.EncodeToString(out.Bytes())}
}

// Functions of the cases, one for each kind of parameter and result.
var functions = template.FuncMap{
	"add":       func(a, b int) int { return a + b },
	"upper":     strings.ToUpper,
	"join":      func(separator string, parts ...string) string { return strings.Join(parts, separator) },
	"sum":       func(first int, rest ...int) int { return total(first, rest) },
	"list":      func(items ...any) []any { return items },
	"strs":      func(items ...string) []string { return items },
	"any":       func(item any) any { return item },
	"nothing":   func() any { return nil },
	"fail":      func() (string, error) { return "", fmt.Errorf("it failed") },
	"failIf":    func(fails bool) (string, error) { return "fine", map[bool]error{true: fmt.Errorf("told to")}[fails] },
	"panics":    func() string { panic("it panicked") },
	"float":     func(f float64) float64 { return f },
	"float32":   func(f float32) float32 { return f },
	"int8":      func(i int8) int8 { return i },
	"int64":     func(i int64) int64 { return i },
	"uint8":     func(u uint8) uint8 { return u },
	"uint":      func(u uint) uint { return u },
	"bool":      func(b bool) bool { return b },
	"cplx":      func(c complex128) complex128 { return c },
	"sizes":     func(m map[string]int) int { return len(m) },
	"count":     func(s []string) int { return len(s) },
	"twice":     func() func(int) int { return func(i int) int { return 2 * i } },
	"joiner":    func() func(string, ...string) string { return func(s string, p ...string) string { return strings.Join(p, s) } },
	"nilMap":    func() map[string]int { return nil },
	"nilFunc":   func() func() string { return nil },
	"upTo":      func(n int) <-chan int { return channel(n) },
	"seq":       func(n int) func(func(int) bool) { return sequence(n) },
	"seq2":      func(n int) func(func(string, int) bool) { return sequence2(n) },
	"service":   func(name string) *Service { return &Service{Name: name, Tags: Tags{}} },
	"echo":      func(items ...any) string { return fmt.Sprintf("%#v", items) },
	"nameOf":    func(s *Service) string { return s.Name },
	"plainName": func(s Service) string { return s.Name },
}

func total(first int, rest []int) int {
	for _, each := range rest {
		first += each
	}
	return first
}

func channel(n int) <-chan int {
	c := make(chan int, n)
	for i := range n {
		c <- i
	}
	close(c)
	return c
}

func sequence(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := 0; i < n && yield(i); i++ {
		}
	}
}

func sequence2(n int) func(func(string, int) bool) {
	return func(yield func(string, int) bool) {
		for i := 0; i < n && yield(fmt.Sprint("k", i), i*i); i++ {
		}
	}
}
