package ops

import (
	"context"
	"slices"

	"ringfort/internal/catalog"
	"ringfort/internal/peer"
	"ringfort/internal/register"
)

// Account returns an account. One that was never written to is there, empty: an
// account comes into being with its first container.
func (s *Service) Account(ctx context.Context, name string) (*catalog.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	r, err := s.proposer.Read(ctx, s.accountKey(s.accountHash(name)).quorum, false)
	if err != nil {
		return nil, err
	}
	return accountFrom(r, name)
}

// accountFrom decodes an account's register; without a record the account is empty.
func accountFrom(r *register.Record, name string) (*catalog.Account, error) {
	if r == nil || r.Tombstone {
		return &catalog.Account{Name: name}, nil
	}
	a, err := catalog.DecodeAccount(r.Value)
	switch {
	case err != nil:
		return nil, err
	case a.Name != name:
		return nil, misplaced("account")
	}
	return a, nil
}

// UpdateAccount changes an account, making it if need be. change may be called
// more than once.
func (s *Service) UpdateAccount(ctx context.Context, name string, change func(*catalog.Account) error) (*catalog.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	var next *catalog.Account
	k := s.accountKey(s.accountHash(name))
	out, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		var err error
		if next, err = accountFrom(cur, name); err != nil {
			return nil, err
		}
		next.Meta = slices.Clone(next.Meta)
		if next.Created == 0 {
			next.Created = s.now()
		}
		if err := change(next); err != nil {
			return nil, err
		}
		value, err := next.Encode()
		return &register.Record{Value: value}, err
	})
	if err != nil {
		return nil, err
	}
	k.settle(out.Record.Ballot)
	return next, nil
}

// AccountStats adds up an account's containers, by policy. It asks every
// container, statsAtATime of them side by side, so it costs by their number and not
// by that of their objects.
func (s *Service) AccountStats(ctx context.Context, name string) (Stats, error) {
	total := Stats{Policies: map[string]Stats{}}
	marker := ""
	for {
		list, more, err := s.ListContainers(ctx, name, &Query{Marker: marker, Limit: peer.MaxPage})
		if err != nil {
			return total, err
		}
		if err := s.WithStats(ctx, name, list); err != nil {
			return total, err
		}
		for _, c := range list {
			p := total.Policies[c.Policy]
			p.Containers++
			p.Objects += c.Count
			p.Bytes += c.Bytes
			total.Policies[c.Policy] = p
			total.Containers++
			total.Objects += c.Count
			total.Bytes += c.Bytes
			marker = c.Name
		}
		if !more {
			return total, nil
		}
	}
}
