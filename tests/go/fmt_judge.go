// What Go's fmt, strconv, unicode and time say, for the tests of src/render: prints the table that
// is kept as fmt_cases.txt, a line for each case, fields separated by tabs and quoted.
package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"strings"
	"time"
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
	0.0, math.Copysign(0, -1), 1.0, -1.5, 3.14159, 2592000.0, 1e21, 1e-7, 123456789.0, 2.5,
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
	{}, {1}, {"a"}, {5, 42}, {-5, 42}, {2, 3.14159}, {3.14159, 2, 8}, {"x", 1}, {nil}, {nil, 1}, {1, 2, 3},
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
}

// Whether `spec` shows the address of value `i`.
func address(spec string, i int) bool {
	value := fmt.Sprintf("%T", values[i])
	return strings.Contains(spec, "p") && (strings.HasPrefix(value, "[") || strings.HasPrefix(value, "m") || value == "*main.Point")
}
