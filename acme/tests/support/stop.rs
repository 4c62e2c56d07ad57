//! A process that ends in the middle of its work, as `kill -9` ends it: at one of its writes, or at one of its
//! requests, and nothing after that happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use acme::{BoxFuture, Request, Response, Store, StoreError, Transport, TransportError};
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// Just before the step takes effect, or just after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// Ends at the `at`-th step (from 0) of those that it counts.
#[derive(Debug)]
pub struct Stop {
    at: usize,
    moment: Moment,
    steps: AtomicUsize,
    ended: Notify,
}

impl Stop {
    pub fn new(at: usize, moment: Moment) -> Arc<Self> {
        Arc::new(Self {
            at,
            moment,
            steps: AtomicUsize::new(0),
            ended: Notify::new(),
        })
    }

    /// Runs `work` until it is done (`true`) or the process ended (`false`).
    pub async fn run(&self, work: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = self.ended.notified() => false,
            () = work => true,
        }
    }

    async fn step<T>(&self, work: impl Future<Output = T>) -> T {
        let ends = self.steps.fetch_add(1, Ordering::Relaxed) == self.at;
        if ends && self.moment == Moment::Before {
            return self.end().await;
        }
        let done = work.await;
        if ends {
            return self.end().await;
        }
        done
    }

    async fn end<T>(&self) -> T {
        self.ended.notify_one();
        std::future::pending().await
    }

    pub fn store(self: &Arc<Self>, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(StoppingStore(Arc::clone(self), inner))
    }

    pub fn transport(self: &Arc<Self>, inner: Arc<dyn Transport>) -> Arc<dyn Transport> {
        Arc::new(StoppingTransport(Arc::clone(self), inner))
    }
}

#[derive(Debug)]
struct StoppingStore(Arc<Stop>, Arc<dyn Store>);

impl Store for StoppingStore {
    fn read<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, StoreError>> {
        self.1.read(name)
    }

    fn write<'a>(
        &'a self,
        name: &'a str,
        content: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.0.step(self.1.write(name, content)))
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.0.step(self.1.remove(name)))
    }
}

#[derive(Debug)]
struct StoppingTransport(Arc<Stop>, Arc<dyn Transport>);

impl Transport for StoppingTransport {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(self.0.step(self.1.send(request)))
    }
}
