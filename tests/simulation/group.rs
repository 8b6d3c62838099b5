//! The model of the consumer group: classic protocol, cooperative. A partition moves by being given up first, unless its
//! owner was put out; then two members hold it for owned until the older one hears of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use paylog::journal::{Assignment, Partition};

use crate::core::Core;
use crate::log::Life;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(u32);

#[derive(Default)]
pub struct Group {
    generation: u32,
    members: BTreeMap<MemberId, Member>,
    /// Who owns each partition, by the coordinator.
    owners: BTreeMap<Partition, MemberId>,
    joined: u32,
}

struct Member {
    life: Life,
    /// As its client knows it: it is told with the next poll.
    knows: u32,
    /// Handed to the application and not given up.
    taken: BTreeSet<Partition>,
    /// Asked back and not given up yet.
    asked: BTreeSet<Partition>,
    mailbox: VecDeque<Assignment>,
    /// Put out of the group, which its client does not know yet.
    out: bool,
    /// Its client has told the application that all is lost.
    told: bool,
}

impl Group {
    pub fn owner(&self, partition: Partition) -> Option<MemberId> {
        self.owners.get(&partition).copied()
    }
}

impl Core {
    pub fn join_group(&mut self, life: Life) -> MemberId {
        let group = &mut self.group;
        group.joined += 1;
        let id = MemberId(group.joined);
        let knows = group.generation;
        let (taken, asked, mailbox) = (BTreeSet::new(), BTreeSet::new(), VecDeque::new());
        group.members.insert(id, Member { life, knows, taken, asked, mailbox, out: false, told: false });
        self.rebalance();
        id
    }

    /// Who owns what from now on: balanced, and as it was where that is balanced, unless partitions are dealt anew.
    pub fn rebalance(&mut self) {
        self.group.generation += 1;
        let mut in_it: Vec<MemberId> =
            self.group.members.iter().filter(|(_, member)| !member.out).map(|(id, _)| *id).collect();
        let shuffled = self.happens(self.plan.rates.shuffle);
        if shuffled {
            self.trace.fault("partitions are dealt anew");
            self.random.shuffle(&mut in_it);
        }
        let partitions: Vec<Partition> = self.topic.partitions().collect();
        let share = partitions.len().div_ceil(in_it.len().max(1));
        let mut counts: BTreeMap<MemberId, usize> = BTreeMap::new();
        let mut targets: BTreeMap<Partition, MemberId> = BTreeMap::new();
        for partition in &partitions {
            let owner = self.group.owners.get(partition).filter(|owner| in_it.contains(owner) && !shuffled);
            if let Some(owner) = owner.filter(|owner| counts.get(owner).copied().unwrap_or(0) < share) {
                *counts.entry(*owner).or_default() += 1;
                targets.insert(*partition, *owner);
            }
        }
        for partition in &partitions {
            let least = in_it.iter().min_by_key(|member| counts.get(member).copied().unwrap_or(0));
            if let (false, Some(least)) = (targets.contains_key(partition), least) {
                *counts.entry(*least).or_default() += 1;
                targets.insert(*partition, *least);
            }
        }
        self.deal(&targets);
    }

    fn deal(&mut self, targets: &BTreeMap<Partition, MemberId>) {
        let Group { members, owners, generation, .. } = &mut self.group;
        let mut news: BTreeMap<MemberId, (Vec<Partition>, Vec<Partition>)> = BTreeMap::new();
        for (partition, target) in targets {
            match owners.get(partition) {
                Some(owner) if owner == target => {}
                Some(owner) => news.entry(*owner).or_default().1.push(*partition),
                None => {
                    owners.insert(*partition, *target);
                    news.entry(*target).or_default().0.push(*partition);
                }
            }
        }
        let now = self.now_us;
        self.trace.line(now, format_args!("group: generation {generation}, {news:?}"));
        for (id, member) in members.iter_mut().filter(|(_, member)| !member.out) {
            let (assigned, revoked) = news.remove(id).unwrap_or_default();
            let revoked: Vec<Partition> = revoked.into_iter().filter(|p| member.asked.insert(*p)).collect();
            if !revoked.is_empty() {
                member.mailbox.push_back(Assignment::Revoked { partitions: revoked, lost: false });
            }
            member.mailbox.push_back(Assignment::Assigned(assigned));
        }
    }

    /// The coordinator has not heard of it for too long.
    pub fn put_out(&mut self, id: MemberId) {
        let Some(member) = self.group.members.get_mut(&id).filter(|member| !member.out) else { return };
        member.out = true;
        self.trace.fault("a member is put out of the group");
        self.group.owners.retain(|_, owner| *owner != id);
        self.rebalance();
    }

    /// What its client has for it. A member that was put out may not hear of it for a while.
    pub fn news_of(&mut self, id: MemberId) -> Option<Assignment> {
        let stale = self.happens(self.plan.rates.stale_news);
        let Group { members, generation, .. } = &mut self.group;
        let member = members.get_mut(&id)?;
        if stale && (member.out || !member.mailbox.is_empty()) {
            self.trace.fault("a member hears of the group late");
            return None;
        }
        if !member.out {
            member.knows = *generation;
            let news = member.mailbox.pop_front()?;
            if let Assignment::Assigned(partitions) = &news {
                member.taken.extend(partitions);
            }
            return Some(news);
        }
        if member.told {
            return None;
        }
        member.told = true;
        member.mailbox.clear();
        Some(Assignment::Revoked { partitions: member.taken.iter().copied().collect(), lost: true })
    }

    /// The application gives up partitions. A member that was put out joins again, as another, once it has given up all.
    pub fn give_up(&mut self, id: MemberId, partitions: &[Partition]) -> MemberId {
        let Some(member) = self.group.members.get_mut(&id) else { return id };
        member.taken.retain(|partition| !partitions.contains(partition));
        member.asked.retain(|partition| !partitions.contains(partition));
        if member.out {
            let (life, over) = (member.life, member.told && member.taken.is_empty());
            if over {
                self.group.members.remove(&id);
                return self.join_group(life);
            }
            return id;
        }
        for partition in partitions {
            if self.group.owners.get(partition) == Some(&id) {
                self.group.owners.remove(partition);
            }
        }
        if !partitions.is_empty() {
            self.rebalance();
        }
        id
    }

    /// The generation that the member's client would put into a transaction.
    pub fn generation_known_to(&self, id: MemberId) -> Option<u32> {
        self.group.members.get(&id).filter(|member| !member.told).map(|member| member.knows)
    }

    /// Does the coordinator take positions from this member in this generation?
    pub fn is_current(&self, id: MemberId, generation: u32) -> bool {
        let member = self.group.members.get(&id).filter(|member| !member.out);
        member.is_some() && generation == self.group.generation
    }

    /// Members of a process that is gone, or silent for too long.
    pub fn put_out_process(&mut self, process: usize, start: Option<u32>) {
        let gone = |member: &Member| member.life.process == process && start.is_none_or(|s| member.life.start == s);
        let ids: Vec<MemberId> =
            self.group.members.iter().filter(|(_, member)| gone(member)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.put_out(id));
    }
}
