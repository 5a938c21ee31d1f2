package peers

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// The measures of a plot, in pixels.
const (
	labelWidth = 190
	plotWidth  = 560
	valueWidth = 250
	rowHeight  = 24
	axisHeight = 22
)

// bars draws one horizontal bar for each contender that has values: their median, and a ring for
// each. What was wrong with a contender stands beside it.
func (r *Report) bars(unit string, of func(contender string) []float64, wrong func(contender string) string) template.HTML {
	top := 0.0
	var shown []string
	for _, c := range r.contenders() {
		found := of(c)
		if len(found) == 0 {
			continue
		}
		shown = append(shown, c)
		top = max(top, slices.Max(found))
	}
	if top == 0 {
		return ""
	}
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg width="%d" height="%d" role="img">`, labelWidth+plotWidth+valueWidth, rowHeight*len(shown))
	for i, c := range shown {
		y := i * rowHeight
		middle := median(of(c))
		width := middle / top * plotWidth
		fmt.Fprintf(&svg, `<text x="0" y="%d">%s</text>`, y+16, template.HTMLEscapeString(Titles[c]))
		fmt.Fprintf(&svg, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`, c, labelWidth, y+5, max(1, width), rowHeight-10)
		most := width
		for _, value := range of(c) {
			x := value / top * plotWidth
			most = max(most, x)
			fmt.Fprintf(&svg, `<circle class="round" cx="%.1f" cy="%d" r="3"/>`, labelWidth+x, y+rowHeight/2)
		}
		fmt.Fprintf(&svg, `<text x="%.1f" y="%d">%s %s%s</text>`, labelWidth+most+8, y+16, number(middle), unit,
			template.HTMLEscapeString(wrong(c)))
	}
	svg.WriteString("</svg>")
	return template.HTML(svg.String()) //nolint:gosec // made of numbers and of names of this package
}

// scale is a logarithmic axis of milliseconds.
type scale struct{ least, most float64 } // logarithms

func (s scale) x(value float64) float64 {
	return labelWidth + (math.Log10(max(value, 0.01))-s.least)/(s.most-s.least)*plotWidth
}

// ranges draws the latencies in a state: for each rate and contender a line from p10 to p99.9.
func (r *Report) ranges(state string) template.HTML {
	lines := slices.DeleteFunc(slices.Clone(r.Latencies), func(l Latency) bool { return l.State != state })
	if len(lines) == 0 {
		return ""
	}
	least, most := r.bare(func(b Bare) float64 { return b.P50 }), 0.0
	for _, l := range lines {
		least, most = min(least, l.P10), max(most, l.P999)
	}
	s := scale{math.Log10(max(least, 0.1)) - 0.05, math.Log10(max(most, 1)) + 0.05}
	var body strings.Builder
	y := axisHeight
	for _, rate := range r.Run.Rates {
		fmt.Fprintf(&body, `<text x="0" y="%d" class="soft">%s inserts/s</text>`, y+16, grouped(rate))
		y += rowHeight
		for _, c := range r.contenders() {
			if at := func(q func(Latency) float64) float64 { return median(r.latencies(c, state, rate, q)) }; at(p50) > 0 {
				r.rangeOf(&body, s, c, y, at)
				y += rowHeight
			}
		}
	}
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg width="%d" height="%d" role="img">`, labelWidth+plotWidth+valueWidth, y)
	s.axis(&svg, y)
	for _, value := range []float64{r.bare(func(b Bare) float64 { return b.P50 }), r.bare(func(b Bare) float64 { return b.P99 })} {
		fmt.Fprintf(&svg, `<line class="bare" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, s.x(value), s.x(value), axisHeight, y)
	}
	svg.WriteString(body.String() + "</svg>")
	return template.HTML(svg.String()) //nolint:gosec // made of numbers and of names of this package
}

// rangeOf draws one line of ranges.
func (r *Report) rangeOf(svg *strings.Builder, s scale, c string, y int, at func(func(Latency) float64) float64) {
	from, to := at(func(l Latency) float64 { return l.P10 }), at(func(l Latency) float64 { return l.P999 })
	center := y + rowHeight/2
	fmt.Fprintf(svg, `<text x="12" y="%d">%s</text>`, y+16, template.HTMLEscapeString(Titles[c]))
	fmt.Fprintf(svg, `<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke-width="2"/>`, c, s.x(from), s.x(to), center, center)
	fmt.Fprintf(svg, `<rect class="%s" x="%.1f" y="%d" width="4" height="14"/>`, c, s.x(at(p50))-2, center-7)
	fmt.Fprintf(svg, `<circle class="%s" cx="%.1f" cy="%d" r="4"/>`, c, s.x(at(p99)), center)
	fmt.Fprintf(svg, `<text x="%.1f" y="%d" class="soft">%s / %s</text>`, s.x(to)+8, y+16, number(at(p50)), number(at(p99)))
}

// axis draws a line at 1, 2 and 5 of each power of ten.
func (s scale) axis(svg *strings.Builder, height int) {
	for power := math.Floor(s.least); power <= s.most; power++ {
		for _, digit := range []float64{1, 2, 5} {
			value := digit * math.Pow(10, power)
			if math.Log10(value) < s.least || math.Log10(value) > s.most {
				continue
			}
			x := s.x(value)
			fmt.Fprintf(svg, `<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x, x, axisHeight, height)
			fmt.Fprintf(svg, `<text x="%.1f" y="14" class="soft" text-anchor="middle">%s ms</text>`, x, trimmed(value))
		}
	}
}

func trimmed(value float64) string { return fmt.Sprintf("%g", value) }
