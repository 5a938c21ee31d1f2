package bench

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// The colours of the stages, in their order: told apart without red and green.
var colours = []string{"#4c78a8", "#9ecae9", "#b8b0ac", "#f58518", "#ffbf79", "#54a24b", "#88d27a"}

// What the picture measures, in pixels.
const (
	pictureWidth = 860
	nameWidth    = 190
	barHeight    = 16
	chartHeight  = 34
	lineHeight   = 18
)

// Picture draws the traces of the rates as SVG: for each rate the mean way of an event and that of
// the slowest percent as bars of stages, and behind them the histogram of each stage. It is empty if
// nothing was traced.
func (r *Result) Picture() string {
	traced := make([]Rate, 0, len(r.Rates))
	longest := 0.0
	for _, rate := range r.Rates {
		if rate.Trace != nil {
			traced = append(traced, rate)
			all, slow := rate.Trace.whole()
			longest = max(longest, all, slow)
		}
	}
	if len(traced) == 0 {
		return ""
	}
	p := &picture{perMillisecond: (pictureWidth - nameWidth - 90) / longest}
	p.text(8, "bold", "Where the time of an event goes, from the return of its COMMIT to the poll of a read_committed consumer")
	p.legend(traced[0].Trace.Stages)
	for _, rate := range traced {
		p.bars(rate)
	}
	p.y += lineHeight
	p.text(8, "bold", "How long each stage took: share of the events, by milliseconds")
	p.histograms(traced)
	return p.svg()
}

// whole returns the mean time of all events, and of the slowest percent.
func (t *Trace) whole() (all, slow float64) {
	for _, s := range t.Stages {
		all, slow = all+max(0, s.Mean), slow+max(0, s.Slowest)
	}
	return all, slow
}

// picture is written from top to bottom.
type picture struct {
	perMillisecond float64
	y              int
	body           strings.Builder
}

func (p *picture) text(x int, weight, text string) {
	p.y += lineHeight
	p.label(x, p.y-5, weight, text)
}

func (p *picture) label(x, y int, weight, text string) {
	fmt.Fprintf(&p.body, `<text x="%d" y="%d" font-weight="%s">%s</text>`+"\n", x, y, weight, html.EscapeString(text))
}

func (p *picture) box(x, y, width, height float64, colour, title string) {
	fmt.Fprintf(&p.body, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s</title></rect>`+"\n",
		x, y, width, height, colour, html.EscapeString(title))
}

// legend has four stages in a line.
func (p *picture) legend(stages []Stage) {
	for i, s := range stages {
		if i%4 == 0 {
			p.y += lineHeight
		}
		x := 8 + i%4*210
		p.box(float64(x), float64(p.y-14), 11, 11, colours[i], s.Name)
		p.label(x+16, p.y-5, "normal", s.Name)
	}
	p.y += lineHeight / 2
}

// bars are those of one rate.
func (p *picture) bars(rate Rate) {
	for _, bar := range []struct {
		name string
		of   func(Stage) float64
	}{
		{grouped(rate.Rate) + "/s, mean", func(s Stage) float64 { return s.Mean }},
		{"slowest percent", func(s Stage) float64 { return s.Slowest }},
	} {
		p.label(8, p.y+barHeight-4, "normal", bar.name)
		x, sum := float64(nameWidth), 0.0
		for i, s := range rate.Trace.Stages {
			width := max(0, bar.of(s)) * p.perMillisecond
			p.box(x, float64(p.y), width, barHeight, colours[i], fmt.Sprintf("%s: %.2f ms", s.Name, bar.of(s)))
			x, sum = x+width, sum+bar.of(s)
		}
		p.label(int(x)+6, p.y+barHeight-4, "normal", fmt.Sprintf("%.1f ms", sum))
		p.y += barHeight + 4
	}
	p.y += 6
}

// histograms are a table of charts: a line for each stage, a column for each rate.
func (p *picture) histograms(rates []Rate) {
	column := (pictureWidth - nameWidth) / len(rates)
	p.y += lineHeight
	for i, rate := range rates {
		p.label(nameWidth+i*column, p.y-5, "normal", grouped(rate.Rate)+"/s")
	}
	for number, stage := range rates[0].Trace.Stages {
		p.label(8, p.y+chartHeight-8, "normal", stage.Name)
		for i, rate := range rates {
			p.chart(nameWidth+i*column, column-16, rate.Trace.Stages[number], colours[number])
		}
		p.y += chartHeight + 6
	}
	bounds := StageBounds()
	for i := range rates {
		step := float64(column-16) / float64(len(bounds)+1)
		for at := 0; at < len(bounds); at += 4 {
			p.label(nameWidth+i*column+int(float64(at+1)*step)-6, p.y+10, "normal", strconv.FormatFloat(bounds[at], 'g', -1, 64))
		}
	}
	p.y += lineHeight
}

func (p *picture) chart(x, width int, s Stage, colour string) {
	events := 0
	for _, n := range s.Histogram {
		events += n
	}
	step := float64(width) / float64(len(s.Histogram))
	fmt.Fprintf(&p.body, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#999"/>`+"\n", x, p.y+chartHeight, x+width, p.y+chartHeight)
	bounds := StageBounds()
	for i, n := range s.Histogram {
		height := chartHeight * float64(n) / float64(events)
		name := "more"
		if i < len(bounds) {
			name = fmt.Sprintf("up to %g ms", bounds[i])
		}
		p.box(float64(x)+float64(i)*step, float64(p.y+chartHeight)-height, step-1, height, colour,
			fmt.Sprintf("%s: %.1f %%", name, 100*float64(n)/float64(events)))
	}
}

func (p *picture) svg() string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, pictureWidth, p.y+12, p.body.String())
}
