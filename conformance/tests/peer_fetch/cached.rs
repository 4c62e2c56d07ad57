//! An exam elsewhere behind the same front as the images of a PACS: cached, shared, resumed.

use std::sync::Arc;
use std::time::Duration;

use conformance::testkit::PeerFault;
use drimbox::archive::{Archive, Scope};
use drimbox::cache::{Bounds, Cache};
use drimbox::dicom::reader::Limits;
use drimbox::dicom::uid::{InstanceUid, SeriesUid};
use drimbox::store::SledStore;
use drimbox::studies::{Settings, Studies, StudiesError};

use crate::consumer::{Tokens, World, study};
use crate::support::{folder, run};

fn front(world: &World) -> Arc<Studies> {
    let folder = folder(&format!("{}-cache", world.name));
    let bounds = Bounds {
        max_bytes: 1 << 30,
        min_free_bytes: 0,
    };
    let settings = Settings {
        pacs: "peer-1".into(),
        revalidate_after: Duration::from_secs(60),
        serve_when_unreachable: false,
        related_counts: true,
        relational_queries: true,
        by_series: true,
        limits: Limits::default(),
    };
    let exam = world.open(world.settings(), Arc::new(Tokens::of(&["token"])));
    Studies::new(
        settings,
        Arc::new(exam) as Arc<dyn Archive>,
        Cache::open(&folder.join("images"), bounds).unwrap(),
        Arc::new(SledStore::open(&folder).unwrap()),
    )
}

/// The instances that a reader of this scope is handed.
async fn read(studies: &Arc<Studies>, scope: &Scope) -> Result<usize, StudiesError> {
    let mut reader = studies.open(scope).await?;
    let mut count = 0;
    while let Some(items) = reader.next().await? {
        count += items.len();
    }
    Ok(count)
}

#[test]
fn what_is_whole_in_the_cache_is_not_asked_for_again() {
    run(async {
        let world = World::new("cached").await;
        let studies = front(&world);
        let whole = Scope::Study(study(world.exam));
        // The first series comes, then the others fail for good.
        world.peer.behave(|b| {
            b.next.push_back(None);
            b.always = Some(PeerFault::Status(403, Vec::new()));
        });
        assert!(read(&studies, &whole).await.is_err());
        let first = world.asked();

        world.peer.behave(|b| b.always = None);
        assert_eq!(read(&studies, &whole).await, Ok(12));
        let asked = world.asked();
        assert!(asked.len() > first.len(), "the others were missing");
        let times = asked.iter().filter(|path| **path == first[0]).count();
        assert_eq!(times, 1, "the first series was there: {asked:?}");

        assert_eq!(read(&studies, &whole).await, Ok(12));
        assert_eq!(world.asked().len(), asked.len(), "now all of it is");
        studies.close().await;
    });
}

#[test]
fn one_instance_alone_does_not_fetch_its_series() {
    run(async {
        let world = World::new("alone").await;
        let studies = front(&world);
        let series = &world.exam.series[0];
        let one = Scope::Instance(
            study(world.exam),
            SeriesUid::parse(&series.series_instance_uid).unwrap(),
            InstanceUid::parse(&series.instances[4].sop_instance_uid).unwrap(),
        );
        assert_eq!(read(&studies, &one).await, Ok(1));
        assert_eq!((world.asked().len(), world.asked_singly()), (1, 1));
        studies.close().await;
    });
}

#[test]
fn what_the_kos_does_not_name_is_not_asked_for() {
    run(async {
        let world = World::new("unnamed").await;
        let studies = front(&world);
        let other = Scope::Series(study(world.exam), SeriesUid::parse("1.2.3").unwrap());
        assert_eq!(read(&studies, &other).await, Err(StudiesError::NotFound));
        let series = SeriesUid::parse(&world.exam.series[0].series_instance_uid).unwrap();
        let instance = InstanceUid::parse("1.2.3").unwrap();
        let other = Scope::Instance(study(world.exam), series, instance);
        assert_eq!(read(&studies, &other).await, Err(StudiesError::NotFound));
        assert_eq!(world.peer.connections(), 0);
        studies.close().await;
    });
}
