package pipeline

// Step is a point in the life of a batch, named for the failpoints of the tests.
type Step string

// The steps of a batch, each before and after.
const (
	BeforeRead    Step = "before-read"
	AfterRead     Step = "after-read"
	BeforeBegin   Step = "before-begin"
	AfterBegin    Step = "after-begin"
	BeforeProduce Step = "before-produce"
	AfterProduce  Step = "after-produce"
	BeforeFlush   Step = "before-flush"
	AfterFlush    Step = "after-flush"
	BeforeIntent  Step = "before-intent"
	AfterIntent   Step = "after-intent"
	BeforeEnd     Step = "before-end"
	AfterEnd      Step = "after-end"
)

// Steps lists every Step in the order of a batch.
func Steps() []Step {
	return []Step{
		BeforeRead, AfterRead, BeforeBegin, AfterBegin, BeforeProduce, AfterProduce,
		BeforeFlush, AfterFlush, BeforeIntent, AfterIntent, BeforeEnd, AfterEnd,
	}
}
