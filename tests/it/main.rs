//! The behaviour of paylog, as its users see it: each scenario is written once and runs on both journals. On Kafka the
//! scenarios need `PAYLOG_TEST_BOOTSTRAP` (see CONTRIBUTING.md) and are run with `--ignored`; without it they fail.
//!
//! * `cluster`: starts services exactly as `main` does, on a log of the scenario's own, and reads that log
//! * `client`: HTTP and server-sent events, written for the tests and not shared with the product
//! * `described_roles`: the descriptions of processes that serve nobody but those who look after them
//! * `described`: holds every answer that `client` sees to `/openapi.json`
//! * `payments`, `idempotency`, `bad_input`, `streams`, `reading`: what one user does
//! * `socket`, `socket_ends`, `polling`: the same over a WebSocket, and a page at a time
//! * `conformance`: the same story over every channel, with connections that are cut; `cutter`: who cuts them
//! * `keys`, `stream_tokens`, `origins`: whose request it is, what a browser is given, and whose pages it shows what
//! * `foreign_hands`: what others could write to the log, and how it is met
//! * `parked`, `rejected`: what an operator decides
//! * `archives`, `imports`: copies of the log, and logs made of them
//! * `checkpoints`: copies of the rows, and instances that start from them; `checkpoint_orders`: who asks for them
//! * `operations`: signals, locks, refusals, and what the binary prints
//! * `outcomes`: clocks that are off, merchants without room
//! * `gateways`: a provider over HTTP, and its faults
//! * `gaps`: what takes offsets and is no record
//! * `full_disk`: a disk without room, under a service and at its start
//! * `restarts`: services that stop and start in the middle
//! * `crashes`: child processes of the real binary, killed with SIGKILL
//! * `instances`, `alternating`, `rebalance`: what only Kafka has
//! * `guards`: what may become of a topic under those who use it
//! * `brokers`: what becomes of brokers, in clusters of the tests' own
//! * `takeover`: owners that come and go, twins, strangers' transactions
//! * `totals`: sums over all payments
//! * `rebuild`: versions of a projection, built and exchanged under load
//! * `upgrades`: rows that an older paylog has left
//! * `verify`: the log read again and judged, and one payment's history
//! * `webhooks`, `webhook_faults`, `webhook_asks`: who asked to be told is told; `receiver`: a server that is told
//! * `event_grid`: a topic of Azure Event Grid that is told, and its events that start payments
//! * `push`, `push_restarts`: browsers that asked to be told are told; `push_service`: a push service, and the browsers behind it
//! * `hubs`: requests from a hub as of Azure Event Hubs, and events to one; `hub_cluster`: a Kafka with SASL over TLS
//! * `service_bus`, `service_bus_faults`, `service_bus_sink`: queues of Azure Service Bus, on a real broker; `artemis`: that
//!   broker, and a client of it that is not ours
//! * `registry`, `registry_requests`, `registry_refused`: a schema registry and its faults; `registry_double`: one that fails as it is told;
//!   `registry_real`: one that nobody here wrote, at `PAYLOG_TEST_REGISTRY`
//! * `intake`, `intake_faults`, `foreign`: what comes over Kafka from producers that are not ours

mod alternating;
mod answering;
mod archives;
mod artemis;
mod bad_input;
mod brokers;
mod checkpoint_orders;
mod checkpoints;
mod client;
mod cluster;
mod conformance;
mod crashes;
mod cutter;
mod described;
mod described_roles;
mod event_grid;
mod foreign;
mod foreign_hands;
mod full_disk;
mod gaps;
mod gateways;
mod guards;
mod hub_cluster;
mod hubs;
mod idempotency;
mod imports;
mod instances;
mod intake;
mod intake_faults;
mod keys;
mod operations;
mod origins;
mod outcomes;
mod parked;
mod payments;
mod polling;
mod push;
mod push_restarts;
mod push_service;
mod reading;
mod rebalance;
mod rebuild;
mod receiver;
mod registry;
mod registry_double;
mod registry_real;
mod registry_refused;
mod registry_requests;
mod rejected;
mod restarts;
mod service_bus;
mod service_bus_faults;
mod service_bus_sink;
#[path = "../../src/store/small_disk.rs"]
mod small_disk;
mod socket;
mod socket_ends;
mod starts;
mod stream_tokens;
mod streams;
mod takeover;
mod totals;
mod upgrades;
mod verify;
mod webhook_asks;
mod webhook_faults;
mod webhooks;

macro_rules! scenarios {
    ($($module:ident::$name:ident,)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::$module::$name(&crate::cluster::Bed::embedded()).await;
            })*
        }
        mod kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs Kafka: see CONTRIBUTING.md"]
            async fn $name() {
                crate::$module::$name(&crate::cluster::Bed::kafka().await).await;
            })*
        }
    };
}

scenarios! {
    payments::a_payment_goes_from_in_progress_to_successful,
    payments::declines_end_with_their_code,
    payments::what_fails_for_a_while_is_retried_until_it_succeeds,
    payments::the_same_road_answers_at_once_or_waits_for_the_end,
    payments::a_backlog_far_larger_than_the_bounds_drains,
    outcomes::a_clock_that_is_hours_behind_charges_nothing_until_it_is_set_right,
    outcomes::a_clock_that_is_a_day_ahead_asks_before_it_charges,
    outcomes::a_merchant_without_room_does_not_hold_up_the_others,
    idempotency::one_key_fifty_times_at_once_is_one_payment,
    idempotency::one_key_with_fifty_bodies_has_one_winner,
    idempotency::a_key_quoted_and_bare_is_one_key_and_a_repeat_never_grows_the_log,
    described::every_operation_is_there_and_no_other,
    bad_input::every_bad_input_is_refused_and_leaves_no_event,
    streams::a_stream_resumes_at_every_position,
    streams::a_customers_stream_resumes_at_every_position,
    streams::a_merchants_whole_stream_resumes_at_every_position,
    streams::types_are_asked_for_by_their_names,
    streams::an_instance_that_is_behind_waits_in_silence,
    streams::tail_follows_all_payments,
    streams::http2_with_prior_knowledge_carries_streams,
    streams::a_stream_of_another_log_is_reset,
    streams::bad_stream_requests_are_refused,
    streams::a_silent_stream_sends_heartbeats_and_an_old_one_ends,
    streams::a_reader_that_sleeps_misses_nothing,
    socket::a_payment_that_has_ended_ends_its_subscription,
    socket::one_socket_carries_several_subscriptions,
    socket::a_page_of_another_origin_opens_no_socket,
    socket::a_cursor_goes_from_one_channel_to_the_other,
    socket::what_a_socket_is_asked_wrongly_is_answered_with_a_code,
    socket_ends::a_socket_is_closed_with_the_code_that_says_why,
    socket_ends::a_stop_tells_each_client_when_to_come_back,
    socket_ends::an_old_socket_is_sent_away_and_resumes,
    polling::what_has_happened_since_a_cursor_is_paged,
    polling::a_page_is_held_open_until_something_happens,
    conformance::every_channel_tells_every_version_once_and_in_order_over_a_thousand_cuts,
    conformance::a_payments_long_poll_tells_what_its_stream_tells,
    keys::a_merchant_sees_what_is_its_own_and_another_is_told_that_nothing_is_there,
    keys::a_key_is_rotated_with_an_overlap_and_revoked_at_once,
    stream_tokens::a_stream_token_opens_what_it_names_until_it_ends,
    stream_tokens::a_socket_opens_by_a_ticket_and_is_told_when_it_is_over,
    stream_tokens::a_browser_comes_to_its_stream_with_a_cookie_or_a_ticket,
    origins::pages_of_an_origin_that_is_named_are_shown_what_a_token_opens_and_no_others,
    origins::a_page_of_another_origin_needs_a_token_where_nobody_needs_a_key,
    origins::nothing_is_said_of_origins_where_none_is_named,
    stream_tokens::whoever_has_too_many_streams_is_told_when_to_come_back,
    keys::without_keys_this_machine_is_let_in_and_no_other_address_is_served,
    keys::the_commands_take_a_key_from_the_environment,
    keys::nothing_of_keys_or_tokens_is_written_anywhere,
    foreign_hands::a_second_end_changes_nothing_and_is_shown,
    foreign_hands::a_later_initiation_with_the_same_id_is_no_effect,
    foreign_hands::an_unreadable_record_halts_its_partition_and_no_other,
    gateways::every_fault_of_a_provider_ends_as_it_must,
    gateways::a_provider_that_is_away_is_waited_for,
    parked::what_is_parked_is_listed_and_counted_from_the_state,
    parked::a_decision_has_its_effect_at_the_version_that_was_seen,
    parked::a_charge_of_another_amount_is_parked_and_settled_by_a_person,
    parked::of_two_decisions_at_once_one_has_an_effect,
    parked::a_bad_decision_is_refused_and_leaves_no_event,
    parked::the_command_parked_shows_first_and_decides_with_apply,
    rejected::a_rejected_record_is_passed_over_and_its_partition_goes_on,
    rejected::only_the_record_at_which_it_has_halted_can_be_rejected,
    rejected::what_a_newer_paylog_may_have_written_is_not_rejected_by_mistake,
    archives::a_restored_log_charges_nothing_and_answers_the_same,
    archives::what_the_provider_charged_before_is_found_after_a_restore,
    archives::an_archive_goes_into_an_empty_log_alone,
    archives::a_rejected_record_is_passed_over_in_a_restored_log_too,
    imports::a_process_under_which_an_import_begins_ends,
    rejected::rows_that_hold_a_rejected_record_are_folded_anew,
    registry::a_log_of_both_frames_is_read_whole,
    registry::an_id_that_is_not_known_holds_up_its_partition_until_the_registry_explains_it,
    registry::who_starts_while_an_id_on_the_log_is_not_explained_is_ready_for_all_others,
    registry_refused::only_what_the_registry_alone_says_nothing_of_is_refused,
    reading::the_etag_and_the_long_poll,
    reading::a_customers_list_is_paged_newest_first,
    reading::what_became_of_a_request_can_be_asked,
    restarts::a_restart_keeps_the_history_and_goes_on,
    restarts::nothing_is_ready_before_it_has_folded_the_log,
    restarts::an_instance_that_starts_empty_answers_the_same,
    restarts::an_instance_whose_rows_are_damaged_answers_the_same,
    operations::sigterm_drains_with_a_stream_open_and_exits_with_0,
    operations::a_data_directory_serves_one_process,
    operations::the_commands_pay_show_and_tail,
    operations::rows_of_another_log_are_refused,
    operations::a_directory_of_something_else_is_refused_and_left_alone,
    gaps::a_fold_from_the_start_comes_to_the_rows_and_offsets_of_the_live_one,
    verify::a_live_log_and_the_rows_of_a_stopped_instance_are_verified,
    verify::a_flipped_row_of_a_copied_store_is_named_by_table_key_and_field,
    verify::a_damaged_total_is_named_by_day_merchant_currency_status_and_field,
    verify::what_is_wrong_with_the_log_is_told_by_payment_and_what_was_rejected_is_honoured,
    verify::a_payment_is_shown_with_its_history_and_as_it_was,
    checkpoints::a_new_instance_starts_from_a_checkpoint_and_folds_only_what_came_since,
    checkpoints::an_instance_with_an_old_checkpoint_is_not_ready_before_the_log_has_ended,
    checkpoints::a_checkpoint_that_cannot_be_used_ends_the_start_and_is_not_served,
    checkpoints::a_stopped_instance_gives_one_and_another_is_made_of_it,
    checkpoints::a_checkpoint_that_holds_a_rejected_record_is_folded_anew,
    checkpoint_orders::a_second_checkpoint_waits_for_the_first_and_each_is_measured,
    checkpoints::rows_that_are_ahead_of_the_log_are_refused,
    crashes::killed_at_any_moment_nothing_acknowledged_is_lost,
    rebuild::a_version_takes_the_others_place_and_goes_back_without_a_failed_request,
    rebuild::a_hundred_rebuilds_under_load_change_nothing,
    rebuild::a_build_that_was_killed_goes_on_where_it_was,
    rebuild::a_version_is_built_beside_a_partition_that_has_halted,
    rebuild::the_commands_replay_rebuild_and_projection,
    upgrades::rows_of_newer_code_are_held_against_those_of_the_code_before_it,
    upgrades::rows_that_differ_from_those_of_the_code_before_are_withheld_until_somebody_accepts_them,
    totals::totals_say_what_was_accepted_and_what_has_become_of_it,
    webhooks::an_endpoint_is_told_of_what_it_asked_for_signed_and_once,
    webhooks::a_receiver_that_fails_is_told_again_with_the_same_id,
    webhooks::a_rebuild_tells_nobody_anything,
    webhooks::a_notifier_that_was_away_tells_everything_that_it_missed,
    webhooks::an_endpoint_that_is_disabled_hears_nothing_until_it_is_enabled,
    webhooks::killed_at_any_moment_a_notifier_loses_nothing,
    webhook_faults::a_receiver_is_treated_as_it_answers,
    webhook_faults::an_endpoint_is_left_alone_for_as_long_as_it_asks_for_over_a_restart,
    webhook_faults::an_address_of_a_private_network_is_not_told,
    webhook_faults::what_does_nothing_but_fail_is_disabled,
    webhook_faults::a_backlog_far_larger_than_the_bounds_is_delivered,
    webhook_faults::events_of_a_payment_come_in_order_where_that_is_asked_for,
    webhook_asks::an_event_is_sent_again_and_a_test_is_sent_when_somebody_asks,
    webhook_asks::what_an_endpoint_has_missed_is_recovered_from_the_log,
    webhook_asks::a_secret_is_exchanged_with_an_overlap,
    webhook_asks::the_command_webhook_does_what_the_routes_do,
    event_grid::a_topic_is_told_of_payments_in_cloud_events,
    event_grid::a_topic_is_treated_as_it_answers,
    event_grid::what_is_due_for_a_topic_goes_together_and_each_has_an_outcome_of_its_own,
    event_grid::a_webhook_is_sent_cloud_events_where_it_asks_for_them,
    event_grid::an_event_starts_one_payment_in_whatever_form_it_comes,
    event_grid::a_batch_is_on_the_log_before_it_is_acknowledged_and_what_can_never_be_paid_is_refused,
    push::a_browser_is_told_how_its_payment_ended_and_nobody_else_can_read_it,
    push::a_push_service_is_treated_as_it_answers,
    push::a_browser_is_not_told_later_than_is_of_use,
    push_restarts::who_was_told_of_a_payment_is_shown_with_it,
    push_restarts::whoever_is_over_untold_is_shown_as_such,
    push_restarts::whoever_was_never_tried_has_no_attempts_and_is_known,
    push_restarts::a_rebuild_tells_no_browser_anything,
    push_restarts::a_notifier_that_was_away_tells_browsers_what_they_missed,
    push::a_browser_that_asks_twice_is_one_and_what_is_wrong_is_refused,
    push::a_page_subscribes_to_what_its_token_names_and_to_nothing_else,
    push::whom_a_token_let_in_is_told_nothing_once_its_key_is_revoked,
    push::the_command_push_does_what_the_routes_do,
    push_restarts::killed_at_any_moment_a_notifier_leaves_no_browser_untold,
    push_restarts::browsers_of_another_key_stay_and_may_come_again,
    push_restarts::what_is_too_old_when_a_notifier_comes_back_is_not_told,
    push_restarts::a_push_service_that_stalls_holds_up_nobody_else,
    push::what_must_not_or_cannot_be_told_is_refused,
}

/// Those that need an AMQP broker too, on both journals.
macro_rules! scenarios_with_a_broker {
    ($($module:ident::$name:ident,)*) => {
        mod amqp_embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs ActiveMQ Artemis: see CONTRIBUTING.md"]
            async fn $name() {
                crate::$module::$name(&crate::cluster::Bed::embedded()).await;
            })*
        }
        mod amqp_kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs ActiveMQ Artemis and Kafka: see CONTRIBUTING.md"]
            async fn $name() {
                crate::$module::$name(&crate::cluster::Bed::kafka().await).await;
            })*
        }
    };
}

scenarios_with_a_broker! {
    service_bus::a_message_starts_a_payment_and_what_is_wrong_goes_to_the_dead_letters,
    service_bus::a_refusal_says_why_as_service_bus_asks_for_it,
    service_bus::a_message_whose_schema_the_registry_explains_starts_a_payment,
    service_bus::a_message_that_was_appended_and_not_settled_comes_again_and_is_one_payment,
    service_bus::a_stop_settles_what_was_appended_and_leaves_the_rest,
    service_bus_faults::a_broker_that_is_stopped_and_started_again_loses_nothing_in_either_direction,
    service_bus_faults::a_wrong_key_is_said_and_ends_nothing,
    service_bus_faults::a_certificate_that_nobody_vouches_for_is_not_talked_to,
    service_bus_faults::what_is_nested_deep_or_large_is_refused_and_ends_nothing,
    service_bus_faults::a_broker_that_nests_what_it_says_ends_nothing,
    service_bus_sink::a_payment_is_told_by_messages_of_one_session_in_order,
    service_bus_sink::a_message_is_sent_again_and_what_was_missed_is_recovered,
    service_bus_sink::a_queue_is_treated_as_it_answers,
}
