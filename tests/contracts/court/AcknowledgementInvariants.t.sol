// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DealingDefect, Opening} from "../../../contracts/interfaces/ICourt.sol";
import {KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {Campaign} from "../utils/Campaign.sol";
import {AcknowledgementFixture} from "./AcknowledgementFixture.sol";
import {Vm} from "forge-std/Test.sol";

/// @notice One ceremony after the other, whose members are asked, answer, refuse and keep silent in any order.
contract AcknowledgementHandler is AcknowledgementFixture {
    bytes private _encodedNow;
    uint256 private _seed;

    /// Of challenges, ever; of those still open; withdrawn.
    uint256 public feesIn;
    uint256 public feesOpen;
    uint256 public feesOut;
    string public violation;
    mapping(bytes4 action => uint256) public successes;
    /// Whether the newest challenge of that name was answered.
    mapping(bytes32 id => bool) private _answered;

    constructor() {
        super.setUp();
        addServers(10);
        _begin();
    }

    modifier action() {
        _;
        ++successes[msg.sig];
    }

    function ask(uint8 index, uint64 more) external action {
        Running memory r = _running();
        index = _next(r, index, false);
        uint256 value = fee + more;
        vm.prank(challenger);
        (bool success,) = address(acknowledgements).call{value: value}(questionTo(r, index));
        require(success);
        // The same may be asked again, and has to be answered again.
        _answered[acknowledgements.idOf(r.c.keyId, 0, index)] = false;
        feesIn += value;
        feesOpen += value;
    }

    function acknowledge_(uint8 index) external action {
        Running memory r = _running();
        index = _next(r, index, true);
        uint96 open = _fee(r, index);
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, index, acknowledgementOf(r.c, index));
        _close(r, index, open);
    }

    /// @dev The dealer of a bad share for somebody, beside its honest dealing.
    function refuse_(uint8 index, uint8 dealer, uint64 share) external action {
        Running memory r = _running();
        index = _next(r, index, true);
        uint96 open = _fee(r, index);
        Dealt memory dealt = withShare(r.dealt[dealer % 4], 2, uint256(share) + 1);
        acknowledgements.answerBadDealing(
            index, r.c.committee, dealt.dealing, dealt.signature, dealt.oneTimeKeys, opening(dealt, 2)
        );
        _close(r, index, open);
        // Its dealer is locked out, so nothing comes of this ceremony.
        if (!_isAnyAsked(r)) _begin();
    }

    /// @dev Honest dealings are no reason.
    function pretend(uint8 index, uint8 dealer, uint8 defect) external action {
        Running memory r = _running();
        index = index % 4 + 1;
        Dealt memory dealt = r.dealt[dealer % 4];
        _mustFail(_badAnswer(r, dealt, index));
        DealingDefect it = DealingDefect(defect % 4);
        bytes memory hashed = hashedOf(dealt, it);
        _mustFail(
            abi.encodeCall(
                acknowledgements.answerMalformedDealing,
                (index, r.c.committee, dealt.dealing, dealt.signature, hashed, it, 0)
            )
        );
    }

    function _badAnswer(Running memory r, Dealt memory dealt, uint8 index) private returns (bytes memory) {
        Opening memory o = opening(dealt, index);
        return abi.encodeCall(
            acknowledgements.answerBadDealing,
            (index, r.c.committee, dealt.dealing, dealt.signature, dealt.oneTimeKeys, o)
        );
    }

    function _mustFail(bytes memory data) private {
        (bool success,) = address(acknowledgements).call(data);
        if (success) violation = "an honest dealing was a reason to refuse";
    }

    function silent(uint8 index) external action {
        Running memory r = _running();
        index = _next(r, index, true);
        uint96 open = _fee(r, index);
        bool answered = _answered[acknowledgements.idOf(r.c.keyId, 0, index)];
        bool live = keys.key(r.c.keyId).state == KeyState.Live;
        vm.warp(uint256(acknowledgements.challenge(r.c.keyId, 0, index).deadline) + 1);
        vm.recordLogs();
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, index);
        if (answered) violation = "who answered was closed as silent";
        Vm.Log[] memory logs = vm.getRecordedLogs();
        bool convicted = logs[logs.length - 1].emitter == address(court);
        if (convicted && live) violation = "convicted of silence about a key that was made";
        if (!convicted && !live) violation = "silence was no fault";
        feesOpen -= open;
        _begin();
    }

    /// @dev Nobody can be asked about the key any more: either who was asked is silent, or the next ceremony begins.
    function finish(bool begin) external action {
        Running memory r = _running();
        finalise(r.c);
        if (begin || !_isAnyAsked(r)) _begin();
    }

    function withdraw(uint8 who) external action {
        address account = _payee(who);
        uint256 before = account.balance;
        vm.prank(account);
        acknowledgements.withdrawFees();
        feesOut += account.balance - before;
    }

    /// @notice Sum of the fees that anybody can withdraw.
    function feesOwed() external returns (uint256 sum) {
        sum = acknowledgements.feesOf(challenger);
        for (uint256 i; i < servers.serverCount(); ++i) {
            sum += acknowledgements.feesOf(operatorOf(i));
        }
    }

    function held() external view returns (uint256) {
        return address(acknowledgements).balance;
    }

    function _payee(uint8 who) private returns (address) {
        uint256 number = who % (servers.serverCount() + 1);
        return number == 0 ? challenger : operatorOf(number - 1);
    }

    /// @dev Fees of challenges of ceremonies that are left behind stay open.
    function _begin() private {
        _encodedNow = abi.encode(running(3, 4, ++_seed));
        vm.deal(challenger, 100 ether);
    }

    function _running() private view returns (Running memory) {
        return abi.decode(_encodedNow, (Running));
    }

    function _isAnyAsked(Running memory r) private view returns (bool any) {
        for (uint8 index = 1; index <= 4; ++index) {
            any = any || _fee(r, index) != 0;
        }
    }

    /// @dev The first member from this one on that waits for an answer, or does not. Members by chance would seldom be those.
    function _next(Running memory r, uint8 from, bool asked) private view returns (uint8) {
        for (uint8 i; i < 4; ++i) {
            uint8 index = uint8((uint256(from) + i) % 4 + 1);
            if ((_fee(r, index) != 0) == asked) return index;
        }
        revert("no such member");
    }

    function _fee(Running memory r, uint8 index) private view returns (uint96) {
        return acknowledgements.challenge(r.c.keyId, 0, index).fee;
    }

    function _close(Running memory r, uint8 index, uint96 open) private {
        feesOpen -= open;
        _answered[acknowledgements.idOf(r.c.keyId, 0, index)] = true;
    }
}

/// @title The sentence C4 of docs/invariants.md
contract AcknowledgementInvariantsTest is Campaign {
    AcknowledgementHandler private handler;

    function setUp() public {
        handler = new AcknowledgementHandler();
        bytes4[7] memory actions = _actions();
        bytes4[] memory selectors = new bytes4[](7);
        for (uint256 i; i < 7; ++i) {
            selectors[i] = actions[i];
        }
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function _actions() private pure returns (bytes4[7] memory) {
        return [
            AcknowledgementHandler.ask.selector,
            AcknowledgementHandler.acknowledge_.selector,
            AcknowledgementHandler.refuse_.selector,
            AcknowledgementHandler.pretend.selector,
            AcknowledgementHandler.silent.selector,
            AcknowledgementHandler.finish.selector,
            AcknowledgementHandler.withdraw.selector
        ];
    }

    function afterInvariant() public {
        string[7] memory names = ["ask", "acknowledge", "refuse", "pretend", "silent", "finish", "withdraw"];
        string[] memory actions = new string[](7);
        uint256[] memory counts = new uint256[](7);
        for (uint256 i; i < 7; ++i) {
            (actions[i], counts[i]) = (names[i], handler.successes(_actions()[i]));
        }
        _conclude("acknowledgements", 64, actions, counts);
    }

    /// forge-config: default.invariant.runs = 64
    function invariant_C4() public {
        uint256 fees = handler.feesOpen() + handler.feesOwed();
        assertEq(handler.held(), fees, "C4: it holds fees and nothing else");
        assertEq(fees, handler.feesIn() - handler.feesOut(), "C4: fees");
        assertEq(handler.violation(), "", "C4");
    }
}
