package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// wantFailure handles a message and returns the error; nothing may be left, and the same message is
// handled afterwards.
func (w *world) wantFailure(b box, h handler) error {
	w.Helper()
	m := message("1", "k")
	result, err := b.Handle(w.Context(), m, h)
	if result != inbox.Failed || err == nil {
		w.Fatalf("result %v, error %v; want a failure", result, err)
	}
	w.wantEmpty()
	w.want(inbox.Processed, b, m, effect("paid"))
	w.wantEffects("paid")
	return err
}

func (w *world) wantOrdinary(err error) {
	w.Helper()
	if inbox.IsUnavailable(err) || inbox.IsPermanent(err) {
		w.Errorf("%v is unavailable (%v) or permanent (%v); it is a failure of this message", err, inbox.IsUnavailable(err), inbox.IsPermanent(err))
	}
}

func TestAPanicIsAFailure(t *testing.T) {
	each(t, func(w *world) {
		err := w.wantFailure(w, func(ctx context.Context, tx transaction) error {
			if err := write(ctx, tx, "paid"); err != nil {
				return err
			}
			panic("no such account")
		})
		w.wantOrdinary(err)
		var panicked *inbox.PanicError
		if !errors.As(err, &panicked) || panicked.Value != "no such account" || !strings.Contains(string(panicked.Stack), "failure_test.go") {
			w.Fatalf("%v: %+v", err, panicked)
		}
	})
}

func TestAPanicWithAnErrorIsThatError(t *testing.T) {
	each(t, func(w *world) {
		cause := errors.New("broken")
		if err := w.wantFailure(w, func(context.Context, transaction) error { panic(cause) }); !errors.Is(err, cause) {
			w.Fatal(err)
		}
	})
}

func TestAHandlerThatEndsItsGoroutineFailsAtOnce(t *testing.T) {
	each(t, func(w *world) {
		began := time.Now()
		err := w.wantFailure(w, func(ctx context.Context, tx transaction) error {
			if err := write(ctx, tx, "paid"); err != nil {
				return err
			}
			runtime.Goexit()
			return nil
		})
		w.wantOrdinary(err)
		if took := time.Since(began); took > patience/2 || errors.Is(err, inbox.ErrTimeout) {
			w.Fatalf("took %v: %v", took, err)
		}
	})
}

func TestAHandlerThatIsNotDoneInTimeFails(t *testing.T) {
	each(t, func(w *world) {
		for name, h := range map[string]handler{
			"waits for its context": func(ctx context.Context, _ transaction) error { <-ctx.Done(); return ctx.Err() },
			"waits for Postgres":    func(ctx context.Context, tx transaction) error { return tx.exec(ctx, "SELECT pg_sleep(600)") },
		} {
			m := message(name, "k")
			result, err := w.process(quick).Handle(w.Context(), m, h)
			if result != inbox.Failed || !errors.Is(err, inbox.ErrTimeout) || errors.Is(err, inbox.ErrLeftBehind) {
				w.Fatalf("%s: %v, %v", name, result, err)
			}
			w.wantOrdinary(err)
			w.want(inbox.Processed, w, m, effect(name))
		}
	})
}

// stubborn is a handler that goes on although its context has ended, until the test lets it go.
// What it does then with its transaction comes out of after.
func (w *world) stubborn(then handler) (h handler, after <-chan error) {
	letGo, ended := make(chan struct{}), make(chan error, 1)
	w.Cleanup(func() { close(letGo) })
	return func(ctx context.Context, tx transaction) error {
		if err := write(ctx, tx, "late"); err != nil {
			return err
		}
		<-ctx.Done()
		err := then(context.WithoutCancel(ctx), tx)
		ended <- err
		<-letGo
		return nil
	}, ended
}

func TestAHandlerThatIgnoresItsContextIsLeftBehindAndChangesNothing(t *testing.T) {
	each(t, func(w *world) {
		b := w.processAt(w.url, 1, quick)
		left := make(chan struct{})
		h, after := w.stubborn(func(ctx context.Context, tx transaction) error {
			<-left
			return errors.Join(write(ctx, tx, "later"), tx.commit(ctx))
		})
		m := message("1", "k")
		result, err := b.Handle(w.Context(), m, h)
		if result != inbox.Failed || !errors.Is(err, inbox.ErrTimeout) || !errors.Is(err, inbox.ErrLeftBehind) {
			w.Fatal(result, err)
		}
		w.wantOrdinary(err)
		close(left)
		if err := soon(w, after); err == nil {
			w.Fatal("it could write and commit")
		}
		w.wantEmpty()
		w.want(inbox.Processed, b, m, effect("paid")) // with the only connection of the pool
		w.wantEffects("paid")
	})
}

func TestAStatementOfAHandlerLeftBehindEndsToo(t *testing.T) {
	each(t, func(w *world) {
		b := w.processAt(w.url, 1, quick)
		h, after := w.stubborn(func(ctx context.Context, tx transaction) error { return tx.exec(ctx, "SELECT pg_sleep(600)") })
		m := message("1", "k")
		result, err := b.Handle(w.Context(), m, h)
		if result != inbox.Failed || !errors.Is(err, inbox.ErrTimeout) || !errors.Is(err, inbox.ErrLeftBehind) {
			w.Fatal(result, err)
		}
		// The mark that it wrote would keep everybody waiting for as long as its statement runs.
		again := w.handling(b, m, effect("paid"))
		if got := soon(w, again); got.result != inbox.Processed || got.err != nil {
			w.Fatal(got)
		}
		if err := soon(w, after); err == nil {
			w.Fatal("its statement came to its end")
		}
		w.wantEffects("paid")
	})
}

func TestAHandlerLeftBehindMayUseItsTransactionAllTheWhile(t *testing.T) {
	each(t, func(w *world) {
		b := w.processAt(w.url, 2, quick)
		stop := make(chan struct{})
		h, after := w.stubborn(func(ctx context.Context, tx transaction) error {
			for n := 0; ; n++ {
				err := tx.exec(ctx, "SELECT 1")
				select {
				case <-stop:
					return fmt.Errorf("%d statements, the last: %w", n, err)
				default:
				}
			}
		})
		m := message("1", "k")
		result, err := b.Handle(w.Context(), m, h)
		if result != inbox.Failed || !errors.Is(err, inbox.ErrLeftBehind) {
			w.Fatal(result, err)
		}
		w.want(inbox.Processed, b, m, effect("paid"))
		close(stop)
		if err := soon(w, after); !strings.Contains(err.Error(), "the last: ") || strings.HasSuffix(err.Error(), "%!w(<nil>)") {
			w.Fatalf("its statements still ran: %v", err)
		}
		w.wantEffects("paid")
	})
}

func TestAHandlerIsLeftBehindWhereTheCallerHasHadEnough(t *testing.T) {
	each(t, func(w *world) {
		ctx, cancel := context.WithCancel(w.Context())
		running, letGo, after := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		done := background(func() outcome {
			result, err := w.Handle(ctx, message("1", "k"), func(ctx context.Context, tx transaction) error {
				close(running)
				<-letGo
				after <- write(context.WithoutCancel(ctx), tx, "late")
				return nil
			})
			return outcome{result, err}
		})
		soon(w, running)
		cancel()
		got := soon(w, done)
		if got.result != inbox.Failed || !errors.Is(got.err, context.Canceled) || errors.Is(got.err, inbox.ErrTimeout) || inbox.IsUnavailable(got.err) {
			w.Fatal(got)
		}
		close(letGo)
		if err := soon(w, after); err == nil {
			w.Fatal("it could write")
		}
		w.want(inbox.Processed, w, message("1", "k"), effect("paid"))
	})
}

func TestTheEndOfTheContextLeavesNothingAndNoConnection(t *testing.T) {
	each(t, func(w *world) {
		b := w.processAt(w.url, 1, nil)
		ended, cancel := context.WithCancel(w.Context())
		cancel()
		if result, err := b.Handle(ended, message("1", "k"), never); result != inbox.Failed || !errors.Is(err, context.Canceled) {
			w.Fatal(result, err)
		}
		ctx, cancel := context.WithCancel(w.Context())
		result, err := b.Handle(ctx, message("1", "k"), func(ctx context.Context, tx transaction) error {
			cancel()
			return tx.exec(ctx, "SELECT pg_sleep(600)")
		})
		if result != inbox.Failed || !errors.Is(err, context.Canceled) || inbox.IsUnavailable(err) {
			w.Fatal(result, err)
		}
		w.want(inbox.Processed, b, message("1", "k"), effect("paid"))
		w.wantEffects("paid")
	})
}

// What a handler does with other systems says nothing about the database of the inbox.
func TestANetworkErrorOfAHandlersOwnIsNoOutage(t *testing.T) {
	each(t, func(w *world) {
		for name, cause := range map[string]error{
			"refused": &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")},
			"cut":     io.ErrUnexpectedEOF,
			"timeout": fmt.Errorf("call: %w", context.DeadlineExceeded),
		} {
			_, err := w.Handle(w.Context(), message(name, "k"), func(context.Context, transaction) error { return cause })
			if !errors.Is(err, cause) {
				w.Fatal(err)
			}
			w.wantOrdinary(err)
		}
		_, err := w.Handle(w.Context(), message("said", "k"), func(context.Context, transaction) error {
			return fmt.Errorf("call: %w", inbox.Unavailable(io.ErrUnexpectedEOF))
		})
		if !inbox.IsUnavailable(err) {
			w.Errorf("%v is not unavailable though the handler says so", err)
		}
	})
}

// The query of a handler with its own time limit closes the connection too, in pgx. That is this
// message's failure.
func TestAnOwnTimeLimitOfAHandlerIsNoOutage(t *testing.T) {
	each(t, func(w *world) {
		w.wantOrdinary(w.wantFailure(w, func(ctx context.Context, tx transaction) error {
			limited, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			return tx.exec(limited, "SELECT pg_sleep(600)")
		}))
	})
}

func TestATimeLimitOfTheSessionDoesNotEndASlowHandler(t *testing.T) {
	each(t, func(w *world) {
		b := w.processAt(w.with("idle_in_transaction_session_timeout", "100ms"), 2, nil)
		var limit string
		look := func(ctx context.Context, tx transaction) error {
			return tx.scan(ctx, &limit, "SHOW idle_in_transaction_session_timeout")
		}
		w.want(inbox.Processed, b, message("1", "k"), look)
		equal(w, "limit in Handle", limit, "25s")
		outcomes, err := b.HandleBatch(w.Context(), []inbox.Message{message("2", "k")}, func(ctx context.Context, tx transaction, _ []inbox.Message) error {
			return look(ctx, tx)
		})
		if results(outcomes) != "processed" || err != nil {
			w.Fatal(outcomes, err)
		}
		equal(w, "limit in HandleBatch", limit, "25s")
	})
}

// A transaction that cannot be committed whatever is tried is a fault of the handler, and of this
// message.
func TestATransactionThatTheHandlerSpoiledIsAFailureAndNoOutage(t *testing.T) {
	declined := errors.New("card declined")
	spoilers := map[string]handler{
		"swallows an error of Postgres": func(ctx context.Context, tx transaction) error {
			if tx.exec(ctx, "SELECT 1/0") == nil {
				return errors.New("no error")
			}
			return nil
		},
		"rolls back": func(ctx context.Context, tx transaction) error { return tx.rollback(ctx) },
		"rolls back and says why": func(ctx context.Context, tx transaction) error {
			return errors.Join(declined, tx.rollback(ctx))
		},
	}
	each(t, func(w *world) {
		for name, h := range spoilers {
			for _, start := range []bool{false, true} {
				m := message(fmt.Sprint(name, start), "k")
				if start {
					if _, err := w.Start(w.Context(), []inbox.Message{m}); err != nil {
						w.Fatal(err)
					}
				}
				result, err := w.Handle(w.Context(), m, h)
				if result != inbox.Failed || err == nil {
					w.Fatalf("%s: %v, %v", name, result, err)
				}
				w.wantOrdinary(err)
				outcomes, err := w.HandleBatch(w.Context(), []inbox.Message{m}, func(ctx context.Context, tx transaction, _ []inbox.Message) error {
					return h(ctx, tx)
				})
				if err != nil || results(outcomes) != "failed" {
					w.Fatalf("%s: %v, %v", name, outcomes, err)
				}
			}
		}
		w.wantEmpty()
	})
}

func TestAHandlerThatCommitsByItselfIsToldAndTheMessageIsADuplicate(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		result, err := w.Handle(w.Context(), m, func(ctx context.Context, tx transaction) error {
			return errors.Join(write(ctx, tx, "paid"), tx.commit(ctx))
		})
		if result != inbox.Failed || err == nil {
			w.Fatal(result, err)
		}
		w.wantOrdinary(err)
		w.want(inbox.Duplicate, w, m, never)
		w.wantEffects("paid")
	})
}

func TestMoreHandlersThanConnectionsWaitForTheirTurn(t *testing.T) {
	each(t, func(w *world) {
		b := w.processAt(w.url, 2, nil)
		var running []<-chan outcome
		for n := range 20 {
			running = append(running, w.handling(b, message(fmt.Sprint(n), "k"), func(ctx context.Context, tx transaction) error {
				if n%3 == 0 {
					return inbox.Permanent(errors.New("no such account")) // parks, with a connection of the same pool
				}
				return write(ctx, tx, "paid")
			}))
		}
		for _, r := range running {
			if got := soon(w, r); got.err != nil {
				w.Fatal(got)
			}
		}
	})
}

// Handlers that are too slow while all connections are in use are slow, and the database is there.
func TestATimeoutIsNoOutageWhereThePoolIsExhausted(t *testing.T) {
	each(t, func(w *world) {
		b := w.processAt(w.url, 1, quick)
		type begun struct {
			tx  transaction
			err error
		}
		var next <-chan begun
		result, err := b.Handle(w.Context(), message("1", "k"), func(ctx context.Context, _ transaction) error {
			next = background(func() begun { // takes the connection as soon as it is free, and keeps it
				tx, err := b.begin(w.Context())
				return begun{tx, err}
			})
			<-ctx.Done()
			return ctx.Err()
		})
		if result != inbox.Failed || !errors.Is(err, inbox.ErrTimeout) {
			w.Fatal(result, err)
		}
		w.wantOrdinary(err)
		got := soon(w, next)
		if err := errors.Join(got.err, got.tx.rollback(w.Context())); err != nil {
			w.Fatal(err)
		}
	})
}
