use super::*;

const YOUNG: Duration = Duration::from_secs(1);

fn fate(code: Code, abortable: bool, age: Duration) -> Fate {
    fate_after(&Fences::default(), code, abortable, age)
}

fn fate_after(fences: &Fences, code: Code, abortable: bool, age: Duration) -> Fate {
    fate_of(Failure { code, abortable, in_doubt: is_timeout_or_transport(code) }, fences.tells_twin(code, age))
}

#[test]
fn a_transaction_that_the_group_refused_is_tried_again() {
    for code in [Code::IllegalGeneration, Code::UnknownMemberId, Code::FencedInstanceId, Code::RebalanceInProgress] {
        assert_eq!(fate(code, true, YOUNG), Fate::Retry, "{code}");
    }
}

#[test]
fn whatever_is_in_doubt_needs_a_new_producer() {
    for code in [Code::OperationTimedOut, Code::BrokerTransportFailure, Code::MessageTimedOut] {
        assert_eq!(fate(code, true, YOUNG), Fate::Recycle, "{code}");
    }
}

#[test]
fn an_error_without_a_flag_needs_a_new_producer() {
    for code in [Code::InvalidTransactionalState, Code::Inconsistent, Code::Unknown, Code::State] {
        assert_eq!(fate(code, false, YOUNG), Fate::Recycle, "{code}");
    }
}

#[test]
fn a_lack_of_rights_stops_the_writer() {
    for code in [Code::TransactionalIdAuthorizationFailed, Code::TopicAuthorizationFailed] {
        assert_eq!(fate(code, false, YOUNG), Fate::Stop, "{code}");
    }
}

const FENCED: [Code; 3] = [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch];

#[test]
fn a_twin_stops_the_writer_the_second_time_and_a_machine_that_slept_does_not() {
    for code in FENCED {
        let mut fences = Fences::default();
        fences.recycled(Instant::now());
        assert_eq!(fate_after(&fences, code, false, YOUNG), Fate::Recycle, "{code}: the machine may have slept");
        assert_eq!(fate_after(&fences, code, false, YOUNG), Fate::Recycle, "{code}: an abort on the same producer");
        fences.recycled(Instant::now());
        assert_eq!(fate_after(&fences, Code::InvalidTransactionalState, false, YOUNG), Fate::Recycle, "no fence");
        assert_eq!(fate_after(&fences, code, false, TRANSACTION_TIMEOUT), Fate::Recycle, "timed out by the broker");
        assert_eq!(fate_after(&fences, code, false, YOUNG), Fate::Stop, "{code}");
    }
}

#[test]
fn fences_that_are_far_apart_are_no_twin() {
    let mut fences = Fences::default();
    assert_eq!(fate_after(&fences, Code::ProducerFenced, false, YOUNG), Fate::Recycle);
    fences.recycled(Instant::now() - TWIN_WITHIN);
    assert_eq!(fate_after(&fences, Code::ProducerFenced, false, YOUNG), Fate::Recycle);
}

#[test]
fn a_transaction_that_the_broker_timed_out_is_no_twin() {
    for code in FENCED {
        assert_eq!(fate(code, false, TRANSACTION_TIMEOUT), Fate::Recycle, "{code}");
    }
}

#[test]
fn only_a_record_that_was_certainly_not_written_is_not_appended() {
    let undelivered = |code, persisted| Undelivered { code, partition: None, persisted }.into_append_error();
    for code in [Code::MessageSizeTooLarge, Code::InvalidRecord] {
        assert!(matches!(undelivered(code, Persisted::No), AppendError::NotAppended(_)), "{code}");
    }
    let open = [
        // Whatever came of it before, and librdkafka does not tell.
        (Code::MessageTimedOut, Persisted::No),
        (Code::PurgeQueue, Persisted::No),
        (Code::TopicAuthorizationFailed, Persisted::No),
        (Code::MessageTimedOut, Persisted::Possibly),
        (Code::PurgeInflight, Persisted::Possibly),
        (Code::NotEnoughReplicasAfterAppend, Persisted::No),
        (Code::NoOffset, Persisted::Yes),
    ];
    for (code, persisted) in open {
        assert!(matches!(undelivered(code, persisted), AppendError::Unknown(_)), "{code}");
    }
}

#[test]
fn a_reader_never_goes_on_where_it_would_skip_something() {
    for code in
        [Code::AutoOffsetReset, Code::LogTruncation, Code::BadMessage, Code::BadCompression, Code::NotImplemented]
    {
        assert_eq!(read_verdict(&KafkaError::MessageConsumption(code)), ReadVerdict::Lost, "{code}");
    }
    for code in [Code::BrokerTransportFailure, Code::AllBrokersDown, Code::NotLeaderForPartition] {
        assert_eq!(read_verdict(&KafkaError::MessageConsumption(code)), ReadVerdict::GoOn, "{code}");
    }
    assert_eq!(read_verdict(&KafkaError::PartitionEOF(3)), ReadVerdict::End(Partition(3)));
}

#[test]
fn the_value_of_a_refused_setting_is_never_told() {
    let conf = rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID;
    let error = KafkaError::ClientConfig(conf, "invalid hunter2".into(), "sasl.password".into(), "hunter2".into());
    let text = journal_error("connect", &error).to_string();
    assert!(text.contains("sasl.password") && !text.contains("hunter2"), "{text}");
}
