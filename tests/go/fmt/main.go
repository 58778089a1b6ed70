// What Go's fmt, strconv, unicode and time say, for the tests of src/render: prints the table that
// is kept as cases.txt, a line for each case, fields separated by tabs and quoted.
package main

import (
	"bufio"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

type Point struct {
	X int
	Y string
}

type Tags []string

type Level int

func (l Level) String() string { return fmt.Sprintf("level-%d", int(l)) }

var values = []any{
	0, 7, -42, 65, 0x1F600, int64(math.MinInt64), int8(-5), uint(9), uint8(200),
	uint64(math.MaxUint64), uintptr(77),
	0.0, math.Copysign(0, -1), 1.0, -1.5, 3.14259, 2592000.0, 1e21, 1e-7, 123456789.0, 2.5,
	100000.0, 1000000.0, math.Inf(1), math.Inf(-1), math.NaN(), 5e-324, math.MaxFloat64,
	float32(3.4), float32(16777216),
	"", "hi", "a\tb\"`é世", "\xff\x00z", "it's 100%", "tab\there", "\u200b\u00ad\U0001F600\ufeff",
	true, false, nil,
	[]string{"a", "b c"}, []int{1, -2}, []any{1, "a", nil, 2.5}, []byte("hi\x01"), []byte(nil),
	map[string]int{"b": 2, "a": 1}, map[string]any{"k": []any{1, nil}}, map[int]bool{3: true, -1: false},
	map[string]string(nil), []string(nil), complex(1, -2.5),
	Point{1, "y"}, &Point{2, "z"}, []Point{{3, "w"}}, Tags{"x", "y"}, Level(3), []Level{1, 2},
	map[Level]Level{2: 1}, (*Point)(nil), []any{Level(4)},
}

var specs = strings.Fields(`%v %+v %#v %T %t %d %+d %x %X %#x %#X %o %#o %O %b %#b %c %q %+q %#q %+#q
	%U %#U %e %E %f %F %g %G %#g %.3g %#.3g %#e %.0f %#.0f %.2e %s %.2s %.0s %p %w %z %5d %-5d| %05d
	%+05d %.3d %8.3d %08.3d %-8.3d| %.0d %5v %-5v| %05v %8q %08q %-8q| %5t %05t %6.2f %06.2f %-8.2f|
	%+.2f %+06.1f %020g %.10g %x| %.1x %10x %-10x| %010x %5.1q %8c %-4c| %04c %.6U %12U %-12U| %012U
	%#12U %5T %v%% %6.3v %#6v %.1v %.2x %.3X %+x %+.1e %#b %#.3x %.0x %é`)

// Flags that hold a space cannot stand among fields.
var spaced = []string{"% d", "% x", "% X", "%# x", "% 05d", "% f", "% .1f", "% v", "% s", "% q", "% 8x", "% e", "% o", "% U", "% c", "%- 8d|"}

// Formats that are about the arguments, each with all of args.
var formats = []string{
	"", "%", "100%", "100%%", "%d %s", "%[2]v %[1]v", "%[3]v", "%[0]v", "%[x]v", "%[", "%[]v", "%[1", "%[1]",
	"%*d", "%-*d|", "%.*f", "%[2]*[1]d", "%[1]*v", "%[3]*.[2]*[1]f", "%!", "%! d", "%d%d%d", "%z", "%-",
	"%.", "%.d", "%5.", "%999999999d|", "%.999999999d|", "%1000001d|", "%[5]d %d", "%[1]d %d %d", "%[1]3d",
	"%[1].3d", "%3[1]d", "%.3[1]d", "%.[1]*d", "%.-3d", "%--5d|", "%00005d", "%+-5d|", "%-05d|", "%1$d",
	"%v %v", "%s|%10s|%-10s|", "é%d世", "%é", "%\xff", "%[1]v %[1]T", "%#[1]v", "%[2]", "%%%d%%", "% d%", "%.3%",
	"%5%", "%-5%|", "%*%", "%[1]*d|", "%[-1]d", "%[99999999999]d", "%*.*f", "%.*d", "%w",
}

var args = [][]any{
	{}, {1}, {"a"}, {5, 42}, {-5, 42}, {2, 3.14259}, {3.14259, 2, 8}, {"x", 1}, {nil}, {nil, 1}, {1, 2, 3},
	{int8(4), uint16(7)}, {[]string{"q"}, true}, {1000001, 1}, {-1000001, 2}, {3.0, 4.0}, {uint64(math.MaxUint64), 1},
}

// Arguments of print and println.
var printed = [][]any{
	{}, {1}, {1, 2}, {"a", "b"}, {"a", 1}, {1, "a"}, {1, 2, "a", 3, 4}, {nil, nil}, {nil, "a", nil}, {true, 2.5},
	{[]string{"a"}, []int{1}}, {Tags{"x"}, 1}, {Level(1), Level(2)}, {2592000.0}, {1e6, 1e-5, 123456.0, 1e20},
	{"a", []byte("b"), "c"}, {map[string]any{"b": 1, "a": nil}, Point{1, "p"}}, {float32(0.1), 0.1}, {'x'},
}

var layouts = []string{
	time.ANSIC, time.UnixDate, time.RubyDate, time.RFC822, time.RFC822Z, time.RFC850, time.RFC1123, time.RFC1123Z,
	time.RFC3339, time.RFC3339Nano, time.Kitchen, time.Stamp, time.StampMilli, time.StampMicro, time.StampNano,
	time.DateTime, time.DateOnly, time.TimeOnly, "Jan January Mon Monday MST", "1 01 2 02 _2 002 __2", "3 03 15 4 04 5 05",
	"06 2006 _2006", "PM pm", "-07 -0700 -07:00 -070000 -07:00:00", "Z07 Z0700 Z07:00 Z070000 Z07:00:00",
	"05.0 05.00 05.000 05.000000000", "05.9 05.99 05.999 05.999999999", "05,000 05,999", "5.000", ".000 .999", "2006-01-02T15:04:05.999Z07:00",
	"Januar Janus Month Mo MSTX", "20060102150405", "x-y_z 0123", "_", "", "15h04m", "006 0002 0", "1504", "Jan_2 Jan__2", "05.000x05.0001",
}

var moments = []time.Time{
	time.Date(2009, 11, 10, 23, 4, 5, 0, time.UTC),
	time.Date(2024, 2, 29, 0, 0, 0, 123456789, time.UTC),
	time.Date(2025, 7, 4, 12, 30, 9, 120000000, time.FixedZone("CEST", 7200)),
	time.Date(1999, 12, 31, 11, 59, 59, 999000000, time.FixedZone("", -12600)),
	time.Date(33, 1, 1, 13, 0, 0, 1000, time.FixedZone("LMT", 3*3600+25*60+45)),
}

// Inputs of functions of the standard library that take and give a text.
var texts = map[string][]string{
	"base64": {"", "a", "ab", "abc", "abcd", "ab=", "ab==", "abc=", "aGk=", "aGk=x", "aGk==", "a===", "====", "?", "a?bc", "aG\nk=", "aGk\n=", "aGk=\n", "aG\r\nk", "YWJj\nZGVm", "YWJj=", "-_==", "+/=="},
	"url64":  {"", "a", "-_==", "+/==", "aGk=", "aGk"},
	"base32": {"", "NBUQ====", "MFRGG===", "ME======", "m", "NBUQ", "NBUQ===", "1BUQ===="},
	"title":  {"", "hello world", "o'neil the_end", "ǆabc ßx éa", "a.b-c\td", "1abc ²x", "\u00a0x\u2003y", "ABC def"},
	"bool":   {"1", "t", "T", "true", "TRUE", "True", "tRUE", "0", "f", "F", "false", "", "yes", " true"},
	"int":    {"0", "-7", "+7", "", "x", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1_000", "0x10", " 1", "1e3", "-"},
	"uint":   {"0", "7", "-7", "+7", "", "18446744073709551615", "18446744073709551616"},
	"float":  {"1", "1.5", ".5", "5.", "1e3", "1E-3", "inf", "-Inf", "NaN", "1e400", "", "x", "1_0", "infinity", "+1", "1e", "e1", "0.1"},
	"duration": {"0", "1s", "1.5h", "1h2m3.5s", "-1.5ms", "1us", "1µs", "100ns", "", "1", "x", "1x", "1.s", ".5s", "-", "1h-2m", "2562048h"},
	"json": {"a<b>&c", "\u2028\u2029", "é世\U0001F600", "\x00\x01\x1f\x7f", "\b\f\n\r\t\"\\/", "'"},
	"clean":  {"", "/", "a", "a/", "a//b", "a/./b", "a/../b", "/..", "../a", "a/../..", "/a/../../b", "./a", "a/b/.."},
	"base":   {"", "/", "a", "a/", "a/b", "a/b/", "//", "/a"},
	"dir":    {"", "/", "a", "a/", "a/b", "a/b/", "//", "/a", "a//b", "/a/b/../c"},
	"ext":    {"", "a", "a.b", "a.b.c", "a.b/c", ".", "..", "a/.b"},
}

// What a function of the standard library makes of a text, or its error.
func standard(kind, text string) string {
	told := func(value any, err error) string {
		if err != nil {
			return "error: " + err.Error()
		}
		return fmt.Sprint(value)
	}
	decoded := func(value []byte, err error) string { return told(string(value), err) }
	switch kind {
	case "base64":
		return decoded(base64.StdEncoding.DecodeString(text))
	case "url64":
		return decoded(base64.URLEncoding.DecodeString(text))
	case "base32":
		return decoded(base32.StdEncoding.DecodeString(text))
	case "title":
		return strings.Title(text)
	case "bool":
		return told(strconv.ParseBool(text))
	case "int":
		return told(strconv.ParseInt(text, 10, 64))
	case "uint":
		return told(strconv.ParseUint(text, 10, 64))
	case "float":
		return told(strconv.ParseFloat(text, 64))
	case "duration":
		return told(time.ParseDuration(text))
	case "json":
		return decoded(json.Marshal(text))
	case "clean":
		return path.Clean(text)
	case "base":
		return path.Base(text)
	case "dir":
		return path.Dir(text)
	default:
		return path.Ext(text)
	}
}

var patterns = []string{
	`a+`, `(a)(b)?`, `^$`, ``, `a*`, `\bfoo\b`, `\d+`, `\w+`, `\s`, `\W`, `[[:alpha:]]+`, `[^a-c]`, `[]a]`, `[a\]]`, `a{2}`, `a{2,}`,
	`a{,2}`, `a{`, `a{x}`, `(?i)FOO`, `(?P<n>o+)`, `(?<n>o+)`, `(?:ab)+`, `x|y`, `.`, `(?s).`, `\pL+`, `\p{Greek}`, `\x41`, `\x{e9}`,
	`\Qa.b\E`, `\.`, `\_`, `[\w.-]+`, `[[a]`, `[a&&b]`, `[a-]`, `[-a]`, `a??b`, `a+?`, `(`, `)`, `[`, `*`, `a**`, `a+*`, `a{1001}`, `a{3,2}`,
	`\y`, `\`, `(?=a)`, `(?z)a`, `[b-a]`, `\A\z`, `(?m)^a$`, `\B`, `[^\d]`, `\07`, `[[:word:]]`, `[[:foo:]]`, `x{0}`, `\8`, `(a|b)*c|d`, `é+`,
}

var matched = []string{"", "aab foo 12 é.b", "FOO_bar\nA{,2} a{x}", "αβ [a&]-]", "foo"}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	row := func(fields ...string) {
		for i, field := range fields {
			if i > 0 {
				out.WriteByte('\t')
			}
			if len(field) > 1000 {
				field = fmt.Sprintf("%d bytes", len(field))
			}
			fmt.Fprintf(out, "%+q", field)
		}
		out.WriteByte('\n')
	}
	for _, spec := range append(specs, spaced...) {
		fields := []string{"verb", spec}
		for i, value := range values {
			text := fmt.Sprintf(spec, value)
			// Addresses differ from run to run; go's own nil has none.
			if strings.Contains(text, "0xc0") || strings.Contains(text, "0XC0") || address(spec, i) {
				text = "-"
			}
			fields = append(fields, text)
		}
		row(fields...)
	}
	for _, format := range formats {
		fields := []string{"format", format}
		for _, args := range args {
			fields = append(fields, fmt.Sprintf(format, args...))
		}
		row(fields...)
	}
	for _, args := range printed {
		row("print", fmt.Sprint(args...), fmt.Sprintln(args...))
	}
	for _, layout := range layouts {
		fields := []string{"time", layout}
		for _, moment := range moments {
			fields = append(fields, moment.Format(layout))
		}
		row(fields...)
	}
	for _, kind := range []string{"base64", "url64", "base32", "title", "bool", "int", "uint", "float", "duration", "json", "clean", "base", "dir", "ext"} {
		for _, text := range texts[kind] {
			row("text", kind, text, standard(kind, text))
		}
	}
	for _, pattern := range patterns {
		fields := []string{"regexp", pattern}
		if compiled, err := regexp.Compile(pattern); err != nil {
			fields = append(fields, "error: "+err.Error())
		} else {
			for _, text := range matched {
				fields = append(fields, compiled.ReplaceAllString(text, "<$0>"), strings.Join(compiled.Split(text, 2), "~"))
			}
		}
		row(fields...)
	}
	// Every letter whose case Go changes.
	for _, mapping := range []struct {
		name string
		of   func(rune) rune
	}{{"upper", unicode.ToUpper}, {"lower", unicode.ToLower}, {"title", unicode.ToTitle}} {
		var sum uint64
		for r := rune(0); r <= unicode.MaxRune; r++ {
			if r < 0xd800 || r > 0xdfff {
				sum = sum*31 + uint64(mapping.of(r))
			}
		}
		row("case", mapping.name, fmt.Sprint(sum))
	}
	var sum uint64
	for r := rune(0); r <= unicode.MaxRune; r++ {
		sum *= 31
		if strconv.IsPrint(r) {
			sum++
		}
	}
	row("printable", fmt.Sprint(sum))
}

// Whether `spec` shows the address of value `i`.
func address(spec string, i int) bool {
	value := fmt.Sprintf("%T", values[i])
	return strings.Contains(spec, "p") && (strings.HasPrefix(value, "[") || strings.HasPrefix(value, "m") || value == "*main.Point")
}
