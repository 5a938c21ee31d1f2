package demo

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/outbox-relay/relay/internal/harness/ledger"
)

// Result is what a demo found. Its JSON form is a contract: the first eight fields are in this
// order, others may follow.
type Result struct {
	// Written is how many messages were committed.
	Written int `json:"written"`
	// RolledBack is how many were written and rolled back, with their transaction or to a savepoint.
	RolledBack int `json:"rolled_back"`
	// Published is how many distinct messages a read_committed consumer read.
	Published int `json:"published"`
	// Lost is how many were committed and never read.
	Lost int `json:"lost"`
	// Duplicated is how often a message was read again.
	Duplicated int `json:"duplicated"`
	// Reordered is how many were read after a later event of their aggregate.
	Reordered int `json:"reordered"`
	// RelayKills is how many relays were ended by SIGKILL.
	RelayKills int `json:"relay_kills"`
	// Seconds from the first write to the end of the checks, without the start of the servers.
	Seconds float64 `json:"seconds"`

	// Invented is how many were read that were never committed: rolled back, never written, or
	// altered on the way.
	Invented int `json:"invented"`
	// Hidden is how many records are in the topic that a read_committed consumer is not shown: killed
	// relays left them in transactions that were aborted.
	Hidden int `json:"hidden"`
	// PerSecond is Published by Seconds.
	PerSecond float64 `json:"messages_per_second"`
	// Postgres is the version of the server.
	Postgres string `json:"postgres"`

	// Effects is how many of the committed messages had their effect at the consumer's.
	Effects int `json:"effects"`
	// EffectsLost is how many had none.
	EffectsLost int `json:"effects_lost"`
	// EffectsTwice is how often a message had its effect again.
	EffectsTwice int `json:"effects_twice"`
	// EffectsReordered is how many effects came after that of a later event of their account.
	EffectsReordered int `json:"effects_reordered"`
	// EffectsInvented is how many messages had an effect without having been committed.
	EffectsInvented int `json:"effects_invented"`
	// BalancesWrong is how many accounts have another balance than the committed messages make.
	BalancesWrong int `json:"balances_wrong"`
	// SumBefore and SumAfter are the sums of all balances, in cents.
	SumBefore int64 `json:"sum_before"`
	SumAfter  int64 `json:"sum_after"`
	// ConsumerKills is how many consumers were ended by SIGKILL.
	ConsumerKills int `json:"consumer_kills"`
	// DuplicatesSent is how many messages were sent again on purpose, past the relay.
	DuplicatesSent int `json:"duplicates_sent"`
	// DuplicatesRefused is how many of them had no effect.
	DuplicatesRefused int `json:"duplicates_refused"`

	writers    int
	accounts   int
	stalled    bool
	stallAfter time.Duration
	examples   map[ledger.Fault][]string
}

// Sound reports whether nothing was lost, duplicated, reordered or invented, neither in the topic
// nor among the effects.
func (r *Result) Sound() bool {
	return r.Lost == 0 && r.Duplicated == 0 && r.Reordered == 0 && r.Invented == 0 &&
		r.EffectsLost == 0 && r.EffectsTwice == 0 && r.EffectsReordered == 0 && r.EffectsInvented == 0 &&
		r.BalancesWrong == 0 && r.SumBefore == r.SumAfter
}

// Verdict explains the result to a person.
func (r *Result) Verdict() string {
	var b strings.Builder
	if r.Sound() {
		b.WriteString("Verdict: exactly once, and in order.\n\n")
	} else {
		b.WriteString("Verdict: NOT exactly once in order. This must not happen; please report it with this output.\n\n")
	}
	if r.stalled {
		fmt.Fprintf(&b, "  Nothing more arrived for %v although messages were waiting: the demo gave up.\n\n", r.stallAfter)
	}
	r.writeCounts(&b)
	r.writeExamples(&b)
	fmt.Fprintf(&b, explanation, r.writers, r.Postgres)
	return b.String()
}

func (r *Result) writeCounts(b *strings.Builder) {
	row := func(n int, name, text string) { fmt.Fprintf(b, "  %11s  %-12s %s\n", grouped(n), name, text) }
	row(r.Written, "written", "committed to the outbox, by "+strconv.Itoa(r.writers)+" writers at once")
	row(r.RolledBack, "rolled back", "written too, then undone with the transaction or to a savepoint")
	row(r.Published, "published", "distinct messages that a read_committed consumer read")
	b.WriteString("\n")
	row(r.Lost, string(ledger.Lost), "committed in Postgres, never read from Kafka")
	row(r.Duplicated, string(ledger.Duplicated), "read a second time")
	row(r.Reordered, string(ledger.Reordered), "read after a later event of the same account")
	row(r.Invented, string(ledger.Invented), "read, but rolled back, never written, or altered")
	b.WriteString("\n")
	row(r.Effects, "effects", "of them moved money between accounts, in a consumer with an inbox")
	row(r.EffectsLost, "lost", "messages that never had their effect")
	row(r.EffectsTwice, "twice", "effects that happened again")
	row(r.EffectsReordered, "reordered", "effects after that of a later event of the same account")
	row(r.EffectsInvented, "invented", "effects of what was not committed")
	b.WriteString("\n")
	row(r.DuplicatesSent, "sent again", "on purpose, by another producer, with the same id and source")
	row(r.DuplicatesRefused, "refused", "of those, by the inbox")
	row(r.RelayKills, "kills", "relays ended by SIGKILL, while they published or while they took over")
	row(r.ConsumerKills, "kills", "consumers ended by SIGKILL, while they booked or while they started")
	row(r.Hidden, "hidden", "records that killed relays left in aborted transactions; consumers are not shown them")
	r.writeBalances(b)
	fmt.Fprintf(b, "\n  %.1f s, %s messages/s, with the kills, the restarts and everything else on this one machine\n\n",
		r.Seconds, grouped(int(r.PerSecond)))
}

func (r *Result) writeBalances(b *strings.Builder) {
	sum, balances := "not a cent was made or lost", "Every balance is what the committed messages make."
	if r.SumBefore != r.SumAfter {
		sum = "money was MADE OR LOST"
	}
	if r.BalancesWrong > 0 {
		balances = grouped(r.BalancesWrong) + " accounts have a WRONG balance."
	}
	fmt.Fprintf(b, "\n  Sum of all %d accounts: %s before, %s after; %s.\n  %s\n",
		r.accounts, money(r.SumBefore), money(r.SumAfter), sum, balances)
}

func (r *Result) writeExamples(b *strings.Builder) {
	for _, f := range []ledger.Fault{ledger.Lost, ledger.Duplicated, ledger.Reordered, ledger.Invented} {
		for _, example := range r.examples[f] {
			fmt.Fprintf(b, "  %s: %s\n", f, example)
		}
	}
	if len(r.examples) > 0 {
		b.WriteString("\n")
	}
}

// explanation takes the number of writers and the version of Postgres.
const explanation = `How it was checked
  %d writers booked on shared accounts in Postgres %s. Each event got the next version of its account
  under the account's row lock, and its id was noted only once its transaction had ended. Some transactions took their
  transaction id first and the account late, some used savepoints, about a tenth was rolled back, and some stayed open
  for a second and more while others committed. The relay was a child process. A consumer with no code of
  the engine compared the id, key and version of every record with those notes, to the very end of the topic.
  Another consumer, a child process too, moved the money that each message says, through package inbox. What it booked was
  compared with the rows of the outbox, without a look at the inbox: nothing in its books stops an effect from
  happening twice, or in another order, but the inbox.

What "exactly once" means here
  A consumer that reads committed records sees each committed message once, whenever the relay dies, and the
  messages of one aggregate in the order of their transactions, as long as these lock the aggregate before they insert.
  What a consumer writes to its database in the transaction of the inbox happens once for each message, in that order.

What this does not show
  The broker was kfake, simulated in this process. It is not Apache Kafka: nothing is replicated, no broker crashed.
  make test shows the same on real Kafka, where brokers and Postgres go away too.

Where to go next
  README.md has a five-minute guide to your own database and cluster; docs/guarantees.md says what holds, and when.
`

// money writes cents.
func money(cents int64) string {
	return fmt.Sprintf("%s.%02d", grouped(int(cents/100)), max(cents, -cents)%100)
}

// grouped writes a number with a comma between thousands.
func grouped(n int) string {
	if n < 0 {
		return "-" + grouped(-n)
	}
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func round(x float64, digits int) float64 {
	unit := math.Pow10(digits)
	return math.Round(x*unit) / unit
}
