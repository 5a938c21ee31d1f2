package kafkatx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Producer is one transactional id with a client of its own.
type Producer struct {
	pool   *Pool
	client *kgo.Client
	txnID  string
	number int // in the pool
}

func (p *Producer) init(ctx context.Context) error {
	id, epoch, err := p.identity(ctx)
	if err != nil {
		return fmt.Errorf("fence transactional id %s: %w", p.txnID, err)
	}
	p.pool.Markers.fencedAs(p, id, epoch)
	return nil
}

// identity returns the producer id and epoch, which change when the client had to start again.
func (p *Producer) identity(ctx context.Context) (id int64, epoch int16, err error) {
	id, epoch, err = p.client.ProducerID(ctx)
	if err == nil && id < 0 {
		err = errors.New("the brokers do not support transactions")
	}
	return id, epoch, err
}

// Begin waits until the last transaction is closed, and begins another.
func (p *Producer) Begin(ctx context.Context) (*Txn, error) {
	if _, err := p.pool.Markers.take(ctx, p); err != nil {
		return nil, fmt.Errorf("begin transaction of %s: %w", p.txnID, err)
	}
	return p.start(ctx)
}

func (p *Producer) start(ctx context.Context) (*Txn, error) {
	t := &Txn{Producer: p, Begun: time.Now()}
	t.promise = t.settle
	var err error
	if t.id, t.epoch, err = p.identity(ctx); err != nil {
		return nil, fmt.Errorf("begin transaction of %s: %w", p.txnID, err)
	}
	if err := p.client.BeginTransaction(); err != nil {
		return nil, fmt.Errorf("begin transaction of %s: %w", p.txnID, err)
	}
	return t, nil
}

// Commit writes one record in a transaction of its own.
func (p *Producer) Commit(ctx context.Context, r *kgo.Record) error {
	t, err := p.Begin(ctx)
	if err != nil {
		return err
	}
	records, given := t.Deadline(ctx)
	defer given()
	t.Produce(records, r)
	if err := t.Flush(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, p.client.Close)
	defer stop()
	return t.Commit(ctx)
}
