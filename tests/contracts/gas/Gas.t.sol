// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DealtImport, KeyKind} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IMicropools} from "../../../contracts/interfaces/IMicropools.sol";
import {IPoolVault} from "../../../contracts/interfaces/IPoolVault.sol";
import {ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {IWithdrawalKeys} from "../../../contracts/interfaces/IWithdrawalKeys.sol";
import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {KeyRegistry} from "../../../contracts/registry/KeyRegistry.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {WithdrawalKeyFixture} from "../pools/WithdrawalKeyFixture.sol";
import {Genesis} from "../utils/Genesis.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {Snapshots} from "./Snapshots.sol";
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";

/// @title Gas of every external function, as whole transactions
/// @notice FOUNDRY_PROFILE=snapshot forge test --match-path 'tests/contracts/gas/*'
/// @dev Via-IR and `isolate`: each call is a transaction of its own with 21,000 gas, calldata and cold storage, as on a
/// chain. snapshots/<contract>.json holds the numbers; a function that none of them names fails the test.
contract GasTest is WithdrawalKeyFixture, Snapshots {
    function setUp() public override {
        _requireProfile();
        _deployAll(12);
        pools = d.micropools;
        _registerProvider(provider);
    }

    // ---------------------------------------------------------------------------------------- ServerRegistry

    function test_ServerRegistry() public {
        string memory group = "ServerRegistry";
        ServerRegistry servers = d.serverRegistry;
        // Twelve servers are registered, so no slot is written for the first time but the server's own.
        uint32 id = _registerServer(makeAddr("late operator"));
        uint256 used = _snap(group, "register", "third and later");
        _assertBudget(used, 160_000, "registration");
        address operator = servers.server(id).operator;

        vm.prank(governance);
        servers.approve(id);
        _snap(group, "approve");
        deal(operator, 1 ether);
        vm.prank(operator);
        servers.addBond{value: 1 ether}(id);
        _snap(group, "addBond");
        vm.prank(operator);
        servers.setEndpoint(id, keccak256("certificate"), "https://server.example:9001");
        _snap(group, "setEndpoint");
        bytes memory proof = signerProofBy(address(servers), 0xbeef, operator, vm.addr(0xbeef));
        vm.prank(operator);
        servers.setSigner(id, vm.addr(0xbeef), proof);
        _snap(group, "setSigner");
        _consequences(servers, id, group);
        vm.prank(governance);
        servers.suspend(id, "under investigation");
        _snap(group, "suspend");
        vm.prank(operator);
        servers.announceLeave(id);
        _snap(group, "announceLeave");
        skip(36 days);
        vm.prank(operator);
        servers.withdrawBond(id);
        _snap(group, "withdrawBond");
        vm.prank(governance);
        servers.setBondParameters(5 ether, 0.3 ether);
        _snap(group, "setBondParameters");
        _serverSeats(servers, group);
        _serverViews(servers, group);
        _assertComplete(group);
    }

    function _consequences(ServerRegistry servers, uint32 id, string memory group) private {
        vm.prank(address(d.court));
        servers.slash(id, address(7), 0, 0);
        _snap(group, "slash", "first of a reporter");
        vm.prank(governance);
        servers.reinstate(id, "disk failure");
        _snap(group, "reinstate");
        vm.prank(address(d.court));
        servers.slash(id, address(7), 0, 0);
        _snap(group, "slash");
        servers.bountyOf(address(7));
        _snap(group, "bountyOf");
        vm.prank(address(7));
        servers.withdrawBounty();
        _snap(group, "withdrawBounty", "to a new account");
        servers.terms(id);
        _snap(group, "terms");
        servers.COURT();
        _snap(group, "COURT");
    }

    function _serverSeats(ServerRegistry servers, string memory group) private {
        bytes memory set = servers.activeSet(ServerKind.Online);
        _snap(group, "activeSet", "of 12");
        uint32[] memory kept = new uint32[](0);
        vm.prank(address(d.keyRegistry));
        uint32[] memory drawn =
            servers.drawSeats(keccak256("seed"), set, kept, 4, 4 + kept.length, 1, provider);
        _snap(group, "drawSeats", "4 of 12");
        vm.prank(address(d.keyRegistry));
        servers.takeSeats(drawn);
        _snap(group, "takeSeats", "4");
        vm.prank(address(d.keyRegistry));
        servers.freeSeats(drawn);
        _snap(group, "freeSeats", "4");
        servers.activeSigners(drawn);
        _snap(group, "activeSigners", "4");
    }

    function _serverViews(ServerRegistry servers, string memory group) private {
        servers.server(1);
        _snap(group, "server");
        servers.serverCount();
        _snap(group, "serverCount");
        servers.serverOfSigner(address(1));
        _snap(group, "serverOfSigner");
        servers.isActive(1);
        _snap(group, "isActive");
        servers.minBond();
        _snap(group, "minBond");
        servers.seatBond();
        _snap(group, "seatBond");
        servers.UNBONDING_DELAY();
        _snap(group, "UNBONDING_DELAY");
        servers.SIGNER_CHANGE_DELAY();
        _snap(group, "SIGNER_CHANGE_DELAY");
        servers.signerChangedAt(1);
        _snap(group, "signerChangedAt");
        servers.KEY_REGISTRY();
        _snap(group, "KEY_REGISTRY");
        servers.RESHARING();
        _snap(group, "RESHARING");
        servers.ACTIVE_SET_CAPACITY();
        _snap(group, "ACTIVE_SET_CAPACITY");
        servers.authority();
        _snap(group, "authority");
        servers.eip712Domain();
        _snap(group, "eip712Domain");
        servers.isConsumingScheduledOp();
        _snap(group, "isConsumingScheduledOp");
        AccessManager fresh = new AccessManager(governance);
        vm.prank(address(d.accessManager));
        servers.setAuthority(address(fresh));
        _snap(group, "setAuthority");
    }

    // -------------------------------------------------------------------------------------- ProviderRegistry

    function test_ProviderRegistry() public {
        string memory group = "ProviderRegistry";
        address who = makeAddr("late provider");
        _registerProvider(who);
        _snap(group, "register");
        skip(1);
        uint256 secret = 0xa11ce;
        bytes memory proof = _dutyKeyProof(secret, who);
        vm.prank(who);
        d.providerRegistry.setDutyKey(vm.addr(secret), proof);
        _snap(group, "setDutyKey");
        d.providerRegistry.isProvider(who);
        _snap(group, "isProvider");
        d.providerRegistry.dutyKey(who);
        _snap(group, "dutyKey");
        d.providerRegistry.dutyKeyAt(who, uint48(block.timestamp));
        _snap(group, "dutyKeyAt");
        d.providerRegistry.providerOfDutyKey(vm.addr(secret));
        _snap(group, "providerOfDutyKey");
        d.providerRegistry.dutyKeyCount(who);
        _snap(group, "dutyKeyCount");
        d.providerRegistry.dutyKeyEntry(who, 1);
        _snap(group, "dutyKeyEntry");
        d.providerRegistry.domainSeparator();
        _snap(group, "domainSeparator");
        d.providerRegistry.eip712Domain();
        _snap(group, "eip712Domain");
        _assertComplete(group);
    }

    // ------------------------------------------------------------------------------------------- KeyRegistry

    function test_KeyRegistry() public {
        string memory group = "KeyRegistry";
        KeyRegistry registry = d.keyRegistry;
        // The first key pays for slots that later ones find filled.
        _live();
        _assertBudget(_ceremony(3, 4, "3-of-4"), 215_000, "finalise 3-of-4");
        _assertBudget(_ceremony(7, 10, "7-of-10"), 345_000, "finalise 7-of-10");
        _keyEnds(registry, group);
        _dealt(registry, group);
        vm.prank(governance);
        registry.addConsumer(address(this));
        _snap(group, "addConsumer");
        vm.prank(governance);
        registry.setCeremonyWindow(2 days);
        _snap(group, "setCeremonyWindow");
        for (uint256 i; i < 8; ++i) {
            uint32 id = _registerServer(makeAddr(string.concat("more", vm.toString(i))));
            vm.prank(governance);
            d.serverRegistry.approve(id);
        }
        _ceremony(11, 16, "11-of-16");
        _keyViews(registry, group);
        _assertComplete(group);
    }

    function _ceremony(uint8 t, uint8 n, string memory variant) private returns (uint256 finalisation) {
        KeyRegistry registry = d.keyRegistry;
        string memory group = "KeyRegistry";
        vm.prank(address(pools));
        uint256 keyId = registry.request(KeyKind.Validator, t, n);
        _snap(group, "request", variant);
        (bytes memory seedHeader, bytes memory activeSet) = _prepareDraw(keyId);
        uint256 before = vm.snapshotState();
        uint32[] memory committee = _draw(keyId);
        vm.revertToState(before);
        registry.draw(keyId, seedHeader, activeSet, new uint32[](0));
        _snap(group, "draw", variant);
        ThresholdKeys.KeySet memory keys = ThresholdKeys.generate(keyId, t, n);
        bytes memory acks = _acknowledgements(keyId, committee, keys, keccak256("dealings"));
        registry.finalise(keyId, committee, keys.points, keccak256("dealings"), acks);
        finalisation = _snap(group, "finalise", variant);

        vm.prank(address(pools));
        registry.order(keyId, keccak256("signing root"));
        _snap(group, "order");
        vm.prank(address(pools));
        registry.retire(keyId, false);
        _snap(group, "retire", "live");
        skip(36 days);
        address[] memory signers = d.serverRegistry.activeSigners(committee);
        registry.freeSeats(keyId, committee, signers, keys.points);
        _snap(group, "freeSeats", variant);
    }

    function _keyEnds(KeyRegistry registry, string memory group) private {
        vm.prank(address(pools));
        uint256 keyId = registry.request(KeyKind.Validator, 3, 4);
        uint32[] memory committee = _draw(keyId);
        skip(3 days);
        registry.restart(keyId, committee, 0);
        _snap(group, "restart", "same committee");
        vm.prank(governance);
        d.serverRegistry.suspend(committee[0], "test");
        skip(3 days);
        registry.restart(keyId, committee, 0);
        _snap(group, "restart", "one of 4 replaced");

        vm.prank(address(pools));
        keyId = registry.request(KeyKind.Validator, 3, 4);
        committee = _draw(keyId);
        vm.prank(address(pools));
        registry.retire(keyId, false);
        _snap(group, "retire", "drawn");
        registry.freeSeatsOfUnfinished(keyId, committee, 0);
        _snap(group, "freeSeatsOfUnfinished", "4");
    }

    function _dealt(KeyRegistry registry, string memory group) private {
        DealtImport memory dealt = _deal(address(this), 77);
        uint256 keyId = registry.importDealt(dealt);
        _snap(group, "importDealt", "3-of-4");
        registry.setDutyKey(keyId, address(7));
        _snap(group, "setDutyKey");
        registry.dealtKey(keyId);
        _snap(group, "dealtKey");
        registry.healthyShares(
            keyId, dealt.committee, d.serverRegistry.activeSigners(dealt.committee), dealt.points
        );
        _snap(group, "healthyShares", "3-of-4");
        registry.retireDealt(keyId);
        _snap(group, "retireDealt");
    }

    function _keyViews(KeyRegistry registry, string memory group) private {
        registry.isOrdered(1, 0);
        _snap(group, "isOrdered");
        registry.key(1);
        _snap(group, "key");
        registry.dutyAssignment(1);
        _snap(group, "dutyAssignment");
        registry.keyCount();
        _snap(group, "keyCount");
        registry.keyOfGroupKey(0);
        _snap(group, "keyOfGroupKey");
        registry.isShareLeaf(1, 0, 0, new bytes32[](2));
        _snap(group, "isShareLeaf");
        registry.MAX_MEMBERS();
        _snap(group, "MAX_MEMBERS");
        registry.SERVER_REGISTRY();
        _snap(group, "SERVER_REGISTRY");
        registry.RESHARING();
        _snap(group, "RESHARING");
        registry.operatorCap(KeyKind.Validator, 3, 4);
        _snap(group, "operatorCap");
        registry.domainSeparator();
        _snap(group, "domainSeparator");
        registry.isConsumer(address(pools));
        _snap(group, "isConsumer");
        registry.ceremonyWindow();
        _snap(group, "ceremonyWindow");
        registry.SEED_DELAY();
        _snap(group, "SEED_DELAY");
        registry.EVIDENCE_WINDOW();
        _snap(group, "EVIDENCE_WINDOW");
        registry.authority();
        _snap(group, "authority");
        registry.eip712Domain();
        _snap(group, "eip712Domain");
        registry.isConsumingScheduledOp();
        _snap(group, "isConsumingScheduledOp");
        AccessManager fresh = new AccessManager(governance);
        vm.prank(address(d.accessManager));
        registry.setAuthority(address(fresh));
        _snap(group, "setAuthority");
    }

    // -------------------------------------------------------------------------------------------- Micropools

    function test_Micropools() public {
        string memory group = "Micropools";
        // The first pool, deposit and key pay for slots that later ones find filled.
        _active();
        uint256 id = _open();
        _snap(group, "open");
        _stakes(id, group);
        _positions(id, group);
        _path(id, group);
        _foreign(group);
        _waysOut(group);
        _withWithdrawalKeys(group);
        _poolViews(id, group);
        _assertComplete(group);
    }

    /// 85,000 less the 25,000 of a reward checkpoint that a later issue adds, also for the stake that fills the pool.
    function _stakes(uint256 id, string memory group) private {
        _stake(id, _staker(0), 0.5 ether);
        uint256 first = _snap(group, "stake", "first");
        _stake(id, _staker(1), 0.5 ether);
        uint256 middle = _snap(group, "stake", "second to 63rd");
        _stake(id, _staker(1), 0.5 ether);
        _snap(group, "stake", "more of the same holder");
        vm.prank(_staker(1));
        pools.leavePool(id, 0.5 ether);
        _snap(group, "leavePool", "a part");
        for (uint256 i = 2; i < 64; ++i) {
            _stake(id, _staker(i), 0.5 ether);
        }
        uint256 last = _snap(group, "stake", "64th, fills the pool");
        _assertBudget(first, 60_000, "the first stake");
        _assertBudget(middle, 60_000, "a stake");
        _assertBudget(last, 60_000, "the stake that fills a pool");
    }

    function _positions(uint256 id, string memory group) private {
        address to = makeAddr("buyer");
        vm.prank(_staker(0));
        pools.transfer(to, id, 0.5 ether);
        _snap(group, "transfer", "whole position to a new holder");
        vm.prank(to);
        pools.approve(address(this), id, 0.5 ether);
        _snap(group, "approve");
        pools.transferFrom(to, _staker(0), id, 0.5 ether);
        _snap(group, "transferFrom", "whole position to a new holder");
        pools.setOperator(to, true);
        _snap(group, "setOperator");
        pools.balanceOf(to, id);
        _snap(group, "balanceOf");
        pools.allowance(to, to, id);
        _snap(group, "allowance");
        pools.isOperator(to, to);
        _snap(group, "isOperator");
    }

    function _path(uint256 id, string memory group) private {
        uint256 keyId = pools.requestKey(id);
        _snap(group, "requestKey", "12 active servers");
        ThresholdKeys.KeySet memory keys = _makeLive(keyId);
        pools.orderDeposit(id, keys.groupKey);
        _snap(group, "orderDeposit");
        bytes memory signature = _ownSignature(id, keys);
        pools.predeposit(id, keys.groupKey, signature);
        _assertBudget(_snap(group, "predeposit"), 320_000, "predeposit");
        skip(CHALLENGE_WINDOW);
        pools.topUp(id, keys.groupKey);
        _snap(group, "topUp");
    }

    function _foreign(string memory group) private {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _predeposited();
        bytes memory signature = _foreignSignature(keys, FOREIGN, 1e9);
        pools.proveForeignDeposit(id, keys.groupKey, FOREIGN, 1e9, signature);
        _snap(group, "proveForeignDeposit", "after the predeposit");
    }

    function _waysOut(string memory group) private {
        (uint256 id,) = _predeposited();
        uint256 keyId = _pool(id).keyId;
        address dutyKey = d.providerRegistry.dutyKey(provider);
        vm.prank(address(d.court));
        pools.penaliseProvider(keyId, 1, [dutyKey, dutyKey], address(7));
        _snap(group, "penaliseProvider", "first of a reporter");
        vm.prank(address(7));
        pools.withdrawBounty();
        _snap(group, "withdrawBounty", "to a new account");

        (id,) = _keyReady();
        skip(PREDEPOSIT_WINDOW);
        pools.cancel(id);
        _snap(group, "cancel", "with a live key");
        vm.prank(_staker(0));
        pools.refund(id);
        _snap(group, "refund");
        vm.prank(provider);
        pools.withdrawInsurance(id);
        _snap(group, "withdrawInsurance");
    }

    function _withWithdrawalKeys(string memory group) private {
        _addWithdrawalKeys();
        _openBls();
        (, ThresholdKeys.KeySet memory w) = _withdrawalKey();
        _openWith(w.groupKey);
        _snap(group, "openWithWithdrawalKey");
        (uint256 id,,) = _predepositedBls();
        vm.warp(pools.pool(id).deadline + pools.CHANGE_WINDOW());
        pools.cancelUnchanged(id);
        _snap(group, "cancelUnchanged");
    }

    function _poolViews(uint256 id, string memory group) private {
        bytes memory pubkey = BLS12381.compressG1(ThresholdKeys.G1);
        pools.pool(id);
        _snap(group, "pool");
        pools.penalties(id);
        _snap(group, "penalties");
        pools.isMigrationDue(id);
        _snap(group, "isMigrationDue");
        pools.bountyOf(provider);
        _snap(group, "bountyOf");
        pools.PROVIDER_PENALTY();
        _snap(group, "PROVIDER_PENALTY");
        pools.poolCount();
        _snap(group, "poolCount");
        pools.poolOfKey(1);
        _snap(group, "poolOfKey");
        pools.excludedOperator(1);
        _snap(group, "excludedOperator");
        pools.dutyAssignment(1);
        _snap(group, "dutyAssignment");
        pools.vaultOf(id);
        _snap(group, "vaultOf");
        pools.withdrawalCredentials(id);
        _snap(group, "withdrawalCredentials");
        pools.depositSigningRoot(pubkey, FOREIGN, 1e9);
        _snap(group, "depositSigningRoot");
        pools.supportsInterface(0x01ffc9a7);
        _snap(group, "supportsInterface");
        pools.MIN_STAKE();
        _snap(group, "MIN_STAKE");
        pools.POOL_SIZE();
        _snap(group, "POOL_SIZE");
        pools.INSURANCE();
        _snap(group, "INSURANCE");
        pools.PREDEPOSIT();
        _snap(group, "PREDEPOSIT");
        pools.OPEN_WINDOW();
        _snap(group, "OPEN_WINDOW");
        pools.KEY_WINDOW();
        _snap(group, "KEY_WINDOW");
        pools.PREDEPOSIT_WINDOW();
        _snap(group, "PREDEPOSIT_WINDOW");
        pools.CHALLENGE_WINDOW();
        _snap(group, "CHALLENGE_WINDOW");
        pools.GENESIS_FORK_VERSION();
        _snap(group, "GENESIS_FORK_VERSION");
        pools.DEPOSIT_CONTRACT();
        _snap(group, "DEPOSIT_CONTRACT");
        pools.KEY_REGISTRY();
        _snap(group, "KEY_REGISTRY");
        pools.PROVIDER_REGISTRY();
        _snap(group, "PROVIDER_REGISTRY");
        pools.VAULT_IMPLEMENTATION();
        _snap(group, "VAULT_IMPLEMENTATION");
        pools.WITHDRAWAL_KEYS();
        _snap(group, "WITHDRAWAL_KEYS");
        pools.CHANGE_WINDOW();
        _snap(group, "CHANGE_WINDOW");
    }

    // ----------------------------------------------------------------------------------------- WithdrawalKeys

    function test_WithdrawalKeys() public {
        string memory group = "WithdrawalKeys";
        _addWithdrawalKeys();
        _withdrawalKey();
        uint256 given = _requestWithdrawalKey(provider);
        _snap(group, "request");
        vm.prank(provider);
        wkeys.giveUp(given);
        _snap(group, "giveUp");
        (uint256 id, ThresholdKeys.KeySet memory v, ThresholdKeys.KeySet memory w) = _predepositedBls();
        uint256 used = wkeys.keyOfPool(id);
        vm.prank(provider);
        wkeys.withdrawKeyBond(used);
        _snap(group, "withdrawKeyBond");
        bytes memory signature = _changeSignature(id, INDEX, w);
        _orderChange(id, INDEX, w);
        _snap(group, "orderChange");
        wkeys.showChange(id, INDEX, w.groupKey, signature);
        uint256 shown = _snap(group, "showChange");
        _assertBudget(shown, 250_000, "showing a change");
        skip(CHALLENGE_WINDOW);
        pools.topUp(id, v.groupKey);
        _snap("Micropools", "topUp", "0x00");
        (, ThresholdKeys.KeySet memory fresh) = _withdrawalKey();
        vm.prank(address(pools));
        wkeys.use(1_000, provider, fresh.groupKey);
        _snap(group, "use");
        _withdrawalKeyViews(id, group);
        _assertComplete(group);
    }

    function _withdrawalKeyViews(uint256 id, string memory group) private {
        wkeys.withdrawalKey(1);
        _snap(group, "withdrawalKey");
        wkeys.keyOfPool(id);
        _snap(group, "keyOfPool");
        wkeys.credentialsOf(id);
        _snap(group, "credentialsOf");
        wkeys.isChangeShown(id);
        _snap(group, "isChangeShown");
        wkeys.changeSigningRoot(INDEX, new bytes(48), provider);
        _snap(group, "changeSigningRoot");
        wkeys.excludedOperator(1);
        _snap(group, "excludedOperator");
        wkeys.dutyAssignment(1);
        _snap(group, "dutyAssignment");
        vm.expectRevert(abi.encodeWithSelector(IWithdrawalKeys.NoDuties.selector, 1));
        wkeys.penaliseProvider(1, 1, [provider, provider], provider);
        _snap(group, "penaliseProvider");
        wkeys.KEY_BOND();
        _snap(group, "KEY_BOND");
        wkeys.GENESIS_VALIDATORS_ROOT();
        _snap(group, "GENESIS_VALIDATORS_ROOT");
        wkeys.MICROPOOLS();
        _snap(group, "MICROPOOLS");
        wkeys.KEY_REGISTRY();
        _snap(group, "KEY_REGISTRY");
    }

    // --------------------------------------------------------------------------------------------- PoolVault

    function test_PoolVault() public {
        string memory group = "PoolVault";
        (uint256 id,) = _keyReady();
        IPoolVault vault = IPoolVault(pools.vaultOf(id));
        deal(address(vault), 32 ether);
        vm.prank(address(pools));
        vault.pay(payable(makeAddr("new account")), 1 ether);
        _snap(group, "pay", "to a new account");
        deal(address(pools), 1 ether);
        vm.prank(address(pools));
        vault.requestWithdrawal{value: 1}(new bytes(48), 0);
        _snap(group, "requestWithdrawal");
        vault.poolId();
        _snap(group, "poolId");
        vault.MICROPOOLS();
        _snap(group, "MICROPOOLS");
        _assertComplete(group);
    }

    // ------------------------------------------------------------------------------------------------- sizes

    /// EIP-170 allows 24,576 bytes.
    function test_Sizes() public {
        _size("ServerRegistry", address(d.serverRegistry));
        _size("ProviderRegistry", address(d.providerRegistry));
        _size("KeyRegistry", address(d.keyRegistry));
        _size("Resharing", address(d.keyRegistry.RESHARING()));
        _size("Court", address(d.court));
        _size("Acknowledgements", address(d.court.ACKNOWLEDGEMENTS()));
        _size("Micropools", address(pools));
        _size("PoolVault", pools.VAULT_IMPLEMENTATION());
        _size("WithdrawalKeys", address(pools.WITHDRAWAL_KEYS()));
        (uint256 id,) = _keyReady();
        _size("a pool's vault", pools.vaultOf(id));
    }

    function _size(string memory name, address account) private {
        assertLe(account.code.length, 24_576);
        vm.snapshotValue("Sizes", name, account.code.length);
    }
}
