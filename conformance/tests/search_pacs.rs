//! Searches over PACS with ways of their own: what they do not do, the gateway does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use conformance::samples::Exam;
use conformance::testkit::pacs::{Abilities, Asked};
use conformance::testkit::{
    Client, Dcmqrscp, FaultyPacs, FaultyWeb, Gateway, GatewayConfig, Orthanc, PacsConfig,
};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use serde_json::Value as Json;
use support::json::{key, name, text, values};
use support::search::{Made, found, gateway, made, many, search, uids as search_uids};
use support::{ask, exam, exams, files, folder, metric, run, series_path, study_path, until};

async fn simulator(name: &str, files: &[std::path::PathBuf]) -> (FaultyPacs, Gateway) {
    let pacs = FaultyPacs::start("SIM", files, &[]).await.unwrap();
    let entry = PacsConfig::new("sim", "SIM", pacs.port());
    let gateway = gateway(name, entry).await;
    (pacs, gateway)
}

fn study_uids(found: &[Json]) -> Vec<String> {
    search_uids(found, tags::STUDY_INSTANCE_UID)
}

/// Retrieves a study and waits until all of it is kept.
async fn cache(gateway: &Gateway, exam: &Exam) {
    let kept = async || metric(gateway, "drimbox_cache_series", &[]).await;
    let wanted = kept().await + exam.series.len() as u64;
    let url = gateway.local_url() + &study_path(exam);
    let images = ask(&Client::plain().unwrap(), &url).await;
    assert_eq!(images.status(), 200);
    images.multipart_to(&folder("cached-parts")).await.unwrap();
    until("the study is in the cache", async || kept().await == wanted).await;
}

#[test]
fn a_pacs_that_answers_its_own_level_only_gives_whole_matches_all_the_same() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &made("levels-files"), &[])
            .await
            .unwrap();
        pacs.behave(|b| {
            b.without_relational_queries = true;
            b.own_level_only = true;
            b.without_related_counts = true;
        });
        let entry = PacsConfig::new("sim", "SIM", pacs.port())
            .set("quirks.relational_queries", false)
            .set("quirks.related_counts", false);
        let gateway = gateway("levels", entry).await;
        let last = *Made::all().last().unwrap();
        let path = format!("/instances?SOPInstanceUID={}", last.instance_uid());
        let one = &found(&gateway, &(path + "&includefield=StudyDescription")).await[0];
        // Of the study, of the series, of the instance; and what nobody but the gateway counts.
        assert_eq!(name(one, tags::PATIENT_NAME), "MARTIN^ZOE");
        assert_eq!(text(one, tags::STUDY_DATE), "20250104");
        let described = &exam("many-studies/0001").study_description;
        assert_eq!(text(one, tags::STUDY_DESCRIPTION), *described);
        assert_eq!(text(one, tags::MODALITY), "MR");
        assert_eq!(text(one, tags::SOP_CLASS_UID), last.sop_class());
        let modalities = values(one, tags::MODALITIES_IN_STUDY);
        assert_eq!(modalities, ["CT", "MR"].map(Json::from));
        for (tag, count) in [
            (tags::NUMBER_OF_STUDY_RELATED_SERIES, "2"),
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, "4"),
            (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, "2"),
        ] {
            assert_eq!(text(one, tag), count, "{tag}");
        }
        // Below a study, a field of the study is there when it is asked for, and only then.
        let path = format!("/studies/{}/series", last.study_uid());
        let plain = found(&gateway, &path).await;
        assert!(plain[0].get(key(tags::STUDY_DESCRIPTION)).is_none());
        let more = found(&gateway, &(path + "?includefield=StudyDescription")).await;
        assert_eq!(text(&more[0], tags::STUDY_DESCRIPTION), *described);
    });
}

#[test]
fn a_study_that_is_not_online_says_so() {
    run(async {
        let made = folder("availability-files");
        let file = |name: &str, availability: &str| {
            let source = exam("many-studies/0001").instances().next().unwrap();
            let mut object = dicom_object::open_file(exams().path(source)).unwrap();
            let put = |tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
            object.put(put(
                tags::STUDY_INSTANCE_UID,
                VR::UI,
                &format!("2.25.{name}"),
            ));
            if !availability.is_empty() {
                object.put(put(tags::INSTANCE_AVAILABILITY, VR::CS, availability));
            }
            let path = made.join(name);
            object.write_to_file(&path).unwrap();
            path
        };
        let files = [file("501", "NEARLINE"), file("502", "")];
        let (_pacs, gateway) = simulator("availability", &files).await;
        for (study, availability) in [("2.25.501", "NEARLINE"), ("2.25.502", "ONLINE")] {
            let found = found(&gateway, &format!("/studies?StudyInstanceUID={study}")).await;
            assert_eq!(text(&found[0], tags::INSTANCE_AVAILABILITY), availability);
        }
    });
}

#[test]
fn pages_of_a_pacs_without_order_are_those_of_one_list() {
    run(async {
        let (pacs, gateway) = simulator("shuffled", &many("shuffled-files", 45)).await;
        pacs.behave(|b| b.shuffles = true);
        let whole = found(&gateway, "/studies?PatientID=MANY*").await;
        assert_eq!(whole.len(), 45);
        let page = async |offset: usize| {
            let path = format!("/studies?PatientID=MANY*&limit=7&offset={offset}");
            search(&gateway, &path).await
        };
        // One after the other, then all at once.
        let mut one_by_one = Vec::new();
        for offset in (0..45).step_by(7) {
            one_by_one.extend(page(offset).await.0);
        }
        assert_eq!(one_by_one, whole);
        let together = futures_util::future::join_all((0..45).step_by(7).map(page)).await;
        for (at, (_, warnings)) in together.iter().enumerate() {
            let is_last = at == together.len() - 1;
            assert_eq!(warnings.is_empty(), is_last, "{warnings:?}");
        }
        let together: Vec<Json> = together.into_iter().flat_map(|(page, _)| page).collect();
        assert_eq!(together, whole);
        let (none, warnings) = search(&gateway, "/studies?limit=0").await;
        assert!(none.is_empty() && warnings[0].contains("additional results"));
        assert_eq!(
            found(&gateway, "/studies?offset=45").await,
            Vec::<Json>::new()
        );
        assert_eq!(
            found(&gateway, "/studies?offset=4294967295&limit=1").await,
            Vec::<Json>::new()
        );
    });
}

#[test]
fn a_search_cut_by_the_gateway_says_so_and_its_pages_agree() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &many("cut-files", 30), &[])
            .await
            .unwrap();
        pacs.behave(|b| b.shuffles = true);
        let config = GatewayConfig::new(&folder("cut")).unwrap();
        let config = config.set("limits.max_matches", 10);
        let config = config.pacs(PacsConfig::new("sim", "SIM", pacs.port()));
        let gateway = Gateway::start(config).await.unwrap();
        let (first, more) = search(&gateway, "/studies?limit=6").await;
        assert!(more[0].contains("additional results"), "{more:?}");
        let (second, cut) = search(&gateway, "/studies?limit=6&offset=6").await;
        assert!(cut[0].contains("exceeded the maximum"), "{cut:?}");
        let mut all = study_uids(&[first, second].concat());
        all.dedup();
        assert_eq!(all.len(), 10);
    });
}

#[test]
fn a_pacs_that_stops_early_without_a_word_is_told_of() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &many("early-files", 12), &[])
            .await
            .unwrap();
        pacs.behave(|b| b.max_results = Some(5));
        let entry = PacsConfig::new("sim", "SIM", pacs.port()).set("quirks.max_results", 5);
        let gateway = gateway("early", entry).await;
        let (some, warnings) = search(&gateway, "/studies").await;
        assert_eq!(some.len(), 5);
        assert!(warnings[0].contains("exceeded the maximum"), "{warnings:?}");
    });
}

#[test]
fn every_match_of_a_long_page_is_counted() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &many("counted-files", 130), &[])
            .await
            .unwrap();
        pacs.behave(|b| b.without_related_counts = true);
        let entry = PacsConfig::new("sim", "SIM", pacs.port()).set("quirks.related_counts", false);
        let gateway = gateway("counted", entry).await;
        let all = found(&gateway, "/studies").await;
        assert_eq!(all.len(), 130);
        for one in &all {
            assert_eq!(text(one, tags::NUMBER_OF_STUDY_RELATED_INSTANCES), "1");
            assert_eq!(text(one, tags::NUMBER_OF_STUDY_RELATED_SERIES), "1");
        }
        // What was counted is not counted again.
        pacs.forget();
        found(&gateway, "/studies").await;
        assert_eq!(pacs.count(|asked| matches!(asked, Asked::Find(_))), 1);
    });
}

#[test]
fn names_match_by_their_meaning_where_the_pacs_agreed_to() {
    run(async {
        let (pacs, gateway) = simulator("fuzzy", &made("fuzzy-files")).await;
        let query = "/studies?PatientName=JEEN%20MARTEN&fuzzymatching=true";
        // It does not answer the negotiation.
        let (none, warnings) = search(&gateway, query).await;
        assert_eq!(none, Vec::<Json>::new());
        assert!(warnings[0].contains("fuzzymatching"), "{warnings:?}");
        pacs.behave(|b| {
            b.abilities = Some(Abilities {
                fuzzy_names: true,
                ..Abilities::default()
            });
            b.closes_after_service = true;
        });
        // The associations of before were negotiated before.
        let _ = search(&gateway, query).await;
        let one = found(&gateway, query).await;
        assert_eq!(one.len(), 1);
        assert_eq!(name(&one[0], tags::PATIENT_NAME), "MARTIN^JEAN");
        // Without the parameter, names are literal.
        assert_eq!(
            found(&gateway, "/studies?PatientName=JEEN%20MARTEN").await,
            Vec::<Json>::new()
        );
    });
}

#[test]
fn names_match_by_their_meaning_over_a_dicomweb_server_that_does_so() {
    run(async {
        let orthanc = Orthanc::builder(&folder("fuzzy-orthanc"))
            .start()
            .await
            .unwrap();
        orthanc.upload(made("fuzzy-web-files")).await.unwrap();
        let pacs = FaultyWeb::start(&orthanc.dicomweb_url()).await.unwrap();
        pacs.behave(|b| b.meant_name = Some("MARTIN?JEAN"));
        let entry = PacsConfig::dicomweb("web", &pacs.url()).set("quirks.decodes_queries", false);
        let cautious = gateway("fuzzy-web-cautious", entry.clone()).await;
        let asking = gateway("fuzzy-web", entry.set("quirks.fuzzy_matching", true)).await;
        let query = "/studies?PatientName=JEEN%20MARTEN&fuzzymatching=true";

        // Nobody knows whether it would: it is not asked, and that is told.
        let (none, warnings) = search(&cautious, query).await;
        assert_eq!(none, Vec::<Json>::new());
        assert!(warnings[0].contains("fuzzymatching"), "{warnings:?}");
        let asked = || {
            pacs.requests()
                .iter()
                .any(|one| one.target.contains("fuzzymatching"))
        };
        assert!(!asked());

        let one = found(&asking, query).await;
        assert_eq!(one.len(), 1);
        assert_eq!(name(&one[0], tags::PATIENT_NAME), "MARTIN^JEAN");
        assert!(asked());

        // It says that it does not: neither a match by meaning, nor a list that was cut.
        pacs.behave(|b| b.warns_of_literal_names = true);
        let (none, warnings) = search(&asking, query).await;
        assert_eq!(none, Vec::<Json>::new());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("fuzzymatching"), "{warnings:?}");
    });
}

#[test]
fn orthanc_does_not_match_names_by_their_meaning_and_that_is_told() {
    run(async {
        let orthanc = Orthanc::builder(&folder("literal")).start().await.unwrap();
        orthanc.upload(made("literal-files")).await.unwrap();
        let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
        let gateway = gateway("literal-gateway", pacs).await;
        let query = "/studies?PatientName=MARTIN%5EJEAN&fuzzymatching=true";
        let (one, warnings) = search(&gateway, query).await;
        assert_eq!(study_uids(&one), ["2.25.77060"]);
        assert!(warnings[0].contains("fuzzymatching"), "{warnings:?}");
    });
}

#[test]
fn a_range_of_moments_goes_to_a_pacs_that_agreed_to_it_and_days_to_another() {
    run(async {
        let (pacs, gateway) = simulator("moments", &made("moments-files")).await;
        let query = "/studies?StudyDate=20250101-20250103&StudyTime=0900-1200";
        let time = || {
            let asked = pacs.asked();
            let find = asked.iter().rev().find_map(|asked| match asked {
                Asked::Find(identifier) => identifier.key(tags::STUDY_TIME).map(str::to_owned),
                _ => None,
            });
            find.unwrap()
        };
        let of = study_uids;
        assert_eq!(of(&found(&gateway, query).await), ["2.25.77061"]);
        assert_eq!(time(), "");
        pacs.behave(|b| {
            b.abilities = Some(Abilities {
                date_time: true,
                ..Abilities::default()
            });
            b.closes_after_service = true;
        });
        let _ = search(&gateway, query).await;
        assert_eq!(of(&found(&gateway, query).await), ["2.25.77061"]);
        assert_eq!(time(), "0900-1200");
    });
}

/// Orthanc answers in Latin-1 unless it is told otherwise, and drops what that does not have.
#[test]
fn names_that_the_pacs_loses_are_whole_once_their_study_is_cached() {
    run(async {
        let orthanc = Orthanc::builder(&folder("latin")).start().await.unwrap();
        orthanc.upload(exams().files().collect()).await.unwrap();
        let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
        let gateway = gateway("latin-gateway", pacs).await;
        for set in ["ir144", "ir126", "ir87", "ir192-latin", "ir192-groups"] {
            let exam = exam(&format!("charsets/{set}"));
            let query = format!("/studies?StudyInstanceUID={}", exam.study_instance_uid);
            let wanted = exam.patient_name.trim_end_matches('=');
            let cold = found(&gateway, &query).await;
            assert_ne!(
                name(&cold[0], tags::PATIENT_NAME),
                wanted,
                "{set}: not lost"
            );
            cache(&gateway, exam).await;
            let warm = found(&gateway, &query).await;
            assert_eq!(name(&warm[0], tags::PATIENT_NAME), wanted, "{set}");
            assert_eq!(text(&warm[0], tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192");
            // At every level that returns the name.
            let series = &exam.series[0].series_instance_uid;
            let below = found(&gateway, &format!("/series?SeriesInstanceUID={series}")).await;
            assert_eq!(name(&below[0], tags::PATIENT_NAME), wanted, "{set}");
        }
    });
}

/// dcmqrscp has no SOP Class UID in its answers.
#[test]
fn what_c_find_does_not_tell_of_an_instance_is_there_once_it_is_cached() {
    run(async {
        let exam = exam("mr");
        let dcmqrscp = Dcmqrscp::builder(&folder("classes"))
            .start(&files(&["mr"]))
            .await
            .unwrap();
        let pacs = PacsConfig::new("pacs", dcmqrscp.ae_title(), dcmqrscp.port())
            .set("quirks.relational_queries", false)
            .set("quirks.related_counts", false);
        let gateway = gateway("classes-gateway", pacs).await;
        let path = format!("{}/instances", series_path(exam, &exam.series[0]));
        let cold = found(&gateway, &path).await;
        let class = |found: &[Json]| text(&found[0], tags::SOP_CLASS_UID);
        assert_eq!(class(&cold), "", "it tells the class now");
        cache(&gateway, exam).await;
        let warm = found(&gateway, &path).await;
        assert_eq!(class(&warm), exam.series[0].instances[0].sop_class_uid);
        for tag in [tags::ROWS, tags::COLUMNS, tags::BITS_ALLOCATED] {
            let told = |found: &[Json], tag: Tag| text(&found[0], tag).parse::<u32>();
            assert!(told(&warm, tag).is_ok(), "{tag}");
        }
    });
}

#[test]
fn a_pacs_that_answers_in_undeclared_latin_1_is_read_as_the_configuration_says() {
    run(async {
        let name_of = "charsets/ir100-capitals";
        let pacs = FaultyPacs::start("SIM", &files(&[name_of]), &[])
            .await
            .unwrap();
        pacs.behave(|b| b.undeclared_latin1 = true);
        let entry = PacsConfig::new("sim", "SIM", pacs.port()).set("quirks.charset", "ISO_IR 100");
        let gateway = gateway("latin1", entry).await;
        let (found, _) = search(&gateway, "/studies").await;
        assert_eq!(
            name(&found[0], tags::PATIENT_NAME),
            exam(name_of).patient_name
        );
        assert_eq!(text(&found[0], tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192");
    });
}

#[test]
fn the_character_set_of_a_query_is_announced_when_it_matters_or_the_pacs_bears_it() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &made("announced-files"), &[])
            .await
            .unwrap();
        let announced = |pacs: &FaultyPacs| {
            let asked = pacs.asked();
            let find = asked.iter().rev().find_map(|asked| match asked {
                Asked::Find(identifier) => Some(identifier.clone()),
                _ => None,
            });
            let set = find.unwrap();
            set.key(tags::SPECIFIC_CHARACTER_SET).map(str::to_owned)
        };
        for (send, plain) in [(true, Some("ISO_IR 192".to_owned())), (false, None)] {
            let entry = PacsConfig::new("sim", "SIM", pacs.port()).set("quirks.send_charset", send);
            let gateway = gateway(&format!("announced-{send}"), entry).await;
            found(&gateway, "/studies?PatientName=MARTIN*").await;
            assert_eq!(announced(&pacs), plain);
            found(&gateway, "/studies?PatientName=LEF%C3%88VRE*").await;
            assert_eq!(announced(&pacs).as_deref(), Some("ISO_IR 192"));
        }
    });
}

/// The simulator declares UTF-8 and means it: reading it in another set shows which one was used.
#[test]
fn a_declared_character_set_is_overruled_only_when_the_configuration_says_so() {
    run(async {
        let exam = exam("charsets/ir100-capitals");
        let pacs = FaultyPacs::start("SIM", &files(&["charsets/ir100-capitals"]), &[])
            .await
            .unwrap();
        for (overrides, wanted) in [(false, "LEFÈVRE^ZOÉ"), (true, "LEFÃˆVRE^ZOÃ‰")] {
            let entry = PacsConfig::new("sim", "SIM", pacs.port())
                .set("quirks.charset", "ISO_IR 100")
                .set("quirks.charset_overrides", overrides);
            let gateway = gateway(&format!("overrides-{overrides}"), entry).await;
            let one = found(&gateway, "/studies").await;
            assert_eq!(name(&one[0], tags::PATIENT_NAME), wanted);
        }
        assert_eq!(exam.patient_name, "LEFÈVRE^ZOÉ");
    });
}

/// Orthanc converts what it is asked for in another syntax.
#[test]
fn a_pacs_that_fails_on_compressed_images_is_asked_for_uncompressed_ones() {
    run(async {
        let exam = exam("ct");
        let orthanc = Orthanc::builder(&folder("uncompressed"))
            .start()
            .await
            .unwrap();
        orthanc.upload(files(&["ct"])).await.unwrap();
        for (only, syntax) in [
            (
                false,
                exam.series[0].instances[0].transfer_syntax_uid.as_str(),
            ),
            (true, uids::EXPLICIT_VR_LITTLE_ENDIAN),
        ] {
            let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port())
                .set("quirks.uncompressed_only", only);
            let gateway = gateway(&format!("uncompressed-{only}"), pacs).await;
            let url = gateway.local_url() + &study_path(exam);
            let images = ask(&Client::plain().unwrap(), &url).await;
            let parts = images.multipart_to(&folder("uncompressed-parts")).await;
            for part in parts.unwrap().parts {
                let sent = part.content_type();
                assert!(
                    sent.ends_with(&format!("transfer-syntax={syntax}")),
                    "{sent}"
                );
            }
        }
        assert_ne!(
            exam.series[0].instances[0].transfer_syntax_uid,
            uids::EXPLICIT_VR_LITTLE_ENDIAN,
            "the exam proves nothing"
        );
    });
}
